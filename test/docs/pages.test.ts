import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { envoyBinary } from "../../envoy/envoy-binary.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { envoyBootstrap } from "../../src/envoy-config/bootstrap.ts";

const docs = join(import.meta.dirname, "../../docs");
const page = (file: string) => readFileSync(join(docs, file), "utf8");
const pages = readdirSync(docs).filter((file) => file.endsWith(".md"));
/** Complete routes files that Envoy's configuration is generated from; `complete-files.test.ts` checks those of all pages. */
const examples = ["advanced.md", "aggregation.md", "recipes.md"]
  .flatMap((file) =>
    [...page(file).matchAll(/^```yaml\n(.*?)^```$/gms)].map((match) => ({
      place: `${file}:${page(file).slice(0, match.index).split("\n").length}`,
      yaml: match[1] ?? "",
    })),
  )
  // Another program's file has no routes.
  .filter(({ yaml }) => /^routes:/m.test(yaml));
const source = readdirSync(join(docs, "../src"), { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .map((file) => readFileSync(join(docs, "../src", file), "utf8"))
  .join("\n");
/** As GitHub forms them. */
const anchorsOf = (file: string) =>
  [...page(file).matchAll(/^#+ (.*)$/gm)].map(([, title = ""]) =>
    title
      .toLowerCase()
      .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1")
      .replaceAll(/[^\p{L}\p{N}_ -]/gu, "")
      .replaceAll(" ", "-"),
  );
let folder: string;
let tls: { certificate: string; key: string; ca: string };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pages-"));
  tls = (await certificateAuthority(folder, ["mcp.example.com"])).files;
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("pages", () => {
  it.each(examples)(
    "$place is a valid routes file, and Envoy accepts the configuration generated from it",
    async ({ place, yaml }) => {
      const file = join(folder, `${place.replace(/\W/g, "-")}.yaml`);
      // If the page does not name Envoy's files, or names some that do not exist here.
      const envoy = `envoy: { tls: { certificate: ${tls.certificate}, key: ${tls.key} }, upstream_ca: ${tls.ca} }\n`;
      // Examples without certificates say so themselves.
      const whole = /terminated_by|^issuer: http:/m.test(yaml)
        ? yaml
        : envoy + yaml.replace(/^envoy:\n( .*\n)+/m, "");
      writeFileSync(file, whole, { mode: 0o600 });
      const env = Object.fromEntries(
        [...yaml.matchAll(/\$\{(\w+)\}/g)].map(([, name]) => [
          name ?? "",
          "a-value-as-long-as-secrets-have-to-be-1",
        ]),
      );
      const loaded = loadConfig(file, env, { listeners: {} });
      expect(loaded.problems.map(formatProblem)).toEqual([]);
      if (!loaded.ok) return;
      const bootstrap = join(folder, `${place.replace(/\W/g, "-")}.envoy.json`);
      writeFileSync(bootstrap, JSON.stringify(envoyBootstrap(loaded.config)));
      await promisify(execFile)(await envoyBinary(), ["--mode", "validate", "-c", bootstrap]);
    },
  );

  it("the recipe for Caddy has the hosts and the port of its routes file", () => {
    const [, yaml = "", caddyfile = ""] =
      /```yaml\n((?:(?!```).)*?terminated_by.*?)```\n\n```caddyfile\n(.*?)```/s.exec(page("recipes.md")) ??
      [];
    const { issuer, envoy, routes } = parse(yaml);
    const hosts = [issuer, ...routes.map(({ from }: { from: string }) => from)].map(
      (url) => new URL(url).host,
    );
    expect(/^(.*) \{$/m.exec(caddyfile)?.[1]?.split(", ")).toEqual(hosts);
    expect(/reverse_proxy (\S+)/.exec(caddyfile)?.[1]).toBe(envoy.listen);
    expect(page("deployment.md")).toContain(`\`\`\`caddyfile\n${caddyfile}\`\`\``);
  });

  it("troubleshooting has at least twenty symptoms, each with all rows, or a table of cases", () => {
    const text = page("troubleshooting.md");
    const symptoms = text
      .split(/^## /m)
      .slice(1)
      .filter((section) => !section.startsWith("Reasons"));
    expect(symptoms.length).toBeGreaterThanOrEqual(20);
    const hasCases = (section: string) =>
      !/^\| seen \|/m.test(section) && (section.match(/^\|.*\|$/gm)?.length ?? 0) >= 6;
    for (const section of symptoms.filter((one) => !hasCases(one)))
      for (const row of ["seen", "log", "metric", "cause", "fix"])
        expect(section).toMatch(new RegExp(`^\\| ${row} \\| .{4,} \\|$`, "m"));
  });

  it("troubleshooting quotes existing errors of aggregated routes and of the bridge", () => {
    const quoted = page("troubleshooting.md")
      .split(/^## /m)
      .filter((section) => /^(Calls of one|A stdio|Session not|Too many)/.test(section))
      .flatMap((section) => section.match(/^\| (?:seen|cause) \|.*$/gm) ?? [])
      .flatMap((row) => [...row.matchAll(/`((?:NAME |Too |Session |has )[^`]*)`/g)])
      .map(([, text = ""]) => text.replace(/^NAME | \(HTTP \d+\)$|^has \d+ sessions, /g, ""));
    expect(quoted.length).toBeGreaterThan(8);
    for (const error of quoted) expect(source).toContain(error.replace(/ \(HTTP.*/, ""));
  });

  it("troubleshooting quotes existing log lines", () => {
    const quoted = [...page("troubleshooting.md").matchAll(/^\| log \| .*$/gm)].flatMap(([row]) =>
      [...row.matchAll(/`([a-z][^`:{}=]* [^`:{}=]{4,})`/g)].map(([, line]) => line ?? ""),
    );
    expect(quoted.length).toBeGreaterThan(10);
    for (const line of quoted) expect(source).toContain(line);
  });

  it("how-it-works has a diagram per flow", () => {
    const text = page("how-it-works.md");
    for (const flow of ["First connection", "Warm call", "Refresh", "Step-up", "Revocation", "Client mode"])
      expect(text).toMatch(new RegExp(`^## ${flow}\\n\\n\`\`\`mermaid`, "m"));
  });

  it("troubleshooting lists every section, and names none that is not there", () => {
    const text = page("troubleshooting.md");
    const [list = ""] = text.split("\n## Every request is 503");
    const listed = [...list.matchAll(/^- \[(.*)\]\(#.*\)$/gm)].map(([, title]) => title);
    const sections = [...text.matchAll(/^## (.*)$/gm)].map(([, title]) => title);
    expect(listed.toSorted()).toEqual(
      sections.filter((title) => title !== "What people see" && title !== "Reasons").toSorted(),
    );
  });

  it.each(pages)("%s links to existing sections", (file) => {
    for (const [, target = "", anchor = ""] of page(file).matchAll(/\]\(([\w-]+\.md|)#([^)\s]+)\)/g))
      expect([target, anchor, anchorsOf(target || file).includes(anchor)]).toEqual([target, anchor, true]);
  });

  it.each(pages)("%s links to existing files", (file) => {
    // Exists only after a run of `bench/profile.ts`.
    const later = ["images/flame-graph.svg"];
    for (const [, target] of page(file).matchAll(/\]\(((?!https?:|#|mailto:)[^)#\s]+)/g)) {
      if (later.includes(target ?? "")) continue;
      expect([target, existsSync(join(dirname(join(docs, file)), target ?? ""))]).toEqual([target, true]);
    }
  });
});
