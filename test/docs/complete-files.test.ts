import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { checkConfig } from "../../src/cli/check-config.ts";
import { configFile } from "../config/config-file.ts";

const root = join(import.meta.dirname, "../..");
const read = (file: string) => readFileSync(join(root, file), "utf8");

/** A routes file that says where people sign in and has routes, so that a reader may take it as it is. */
const isComplete = (yaml: string) =>
  /^(issuer|authenticate_service_url):/m.test(yaml) && /^routes:/m.test(yaml);

const lineOf = (text: string, index: number) => text.slice(0, index).split("\n").length;
const inPages = globSync(["*.md", "docs/*.md", "deploy/**/*.md"], { cwd: root }).flatMap((file) => {
  const text = read(file);
  const printed = [
    ...text.matchAll(/^( *)```ya?ml\n(.*?)^\1```$/gms),
    ...text.matchAll(/^()cat > \S+ <<'YAML'\n(.*?)^YAML$/gms),
  ];
  return printed.map((match) => ({ place: `${file}:${lineOf(text, match.index)}`, yaml: match[2] ?? "" }));
});
const inFiles = globSync("{deploy,examples}/**/*.{yaml,yml}", {
  cwd: root,
  exclude: ["**/helm/**/templates/**"],
}).flatMap((file) => {
  const whole = [{ place: file, yaml: read(file) }];
  const mounted = parseAllDocuments(read(file)).flatMap((document) => {
    const { data, stringData } = document.toJS() ?? {};
    return Object.entries<unknown>({ ...data, ...stringData });
  });
  return [
    ...whole,
    ...mounted.flatMap(([name, yaml]) =>
      typeof yaml === "string" ? [{ place: `${file}: ${name}`, yaml }] : [],
    ),
  ];
});
const printed = [...inPages, ...inFiles].filter(({ yaml }) => isComplete(yaml));

it("complete routes files are on at least ten pages and in the files to deploy", () => {
  const places = printed.map(({ place }) => place.replace(/:.*/, ""));
  expect(new Set(places).size).toBeGreaterThanOrEqual(10);
  expect(places).toContain("deploy/compose/routes.yaml");
  expect(places).toContain("deploy/kubernetes/rendered/production.yaml");
});

it.each(printed)("check-config finds no error in the routes file at $place, as it is printed", ({ yaml }) => {
  const env = Object.fromEntries(
    [...yaml.matchAll(/\$\{(\w+)\}/g)].map(([, name]) => [
      name,
      `a-value-as-long-as-secrets-have-to-be-${name}`,
    ]),
  );
  const said: string[] = [];
  const say = (text: string) => void said.push(text);
  const code = checkConfig({ file: configFile(yaml), env, out: () => {}, err: say });
  expect([code, said.join("")]).toEqual([0, expect.not.stringContaining("error:")]);
});
