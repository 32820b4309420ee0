import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { jsonSchemaOf } from "../../src/admin/route-settings.ts";
import { configSchema } from "../../src/config/config-schema.ts";
import { createFields } from "../../src/config/field-types.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { policyVocabulary } from "../../src/config/policy-vocabulary.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { readNoFile } from "../../src/config/referenced-files.ts";
import { restartKeys } from "../../src/config/restart-keys.ts";
import { routeSchema } from "../../src/config/route-schema.ts";
import { configFile } from "./config-file.ts";

const text = readFileSync(join(import.meta.dirname, "..", "..", "docs", "configuration.md"), "utf8");
const examples = [...text.matchAll(/^```yaml\n(.*?)^```$/gms)].map((match) => ({
  line: text.slice(0, match.index).split("\n").length,
  yaml: match[1] ?? "",
}));

const properties = z.record(z.string(), z.unknown()).optional();
const JsonObject = z.object({ properties, anyOf: z.array(z.object({ properties })).optional() });

/** Required sections that an example may omit. */
const rest: Record<string, string> = {
  issuer: "issuer: https://auth.example.com\n",
  sign_in: "sign_in: {providers: [{issuer: https://login.example.com, client_id: c, trust_email: false}]}\n",
  policy: "policy: {allow: {or: [{accept: true}]}}\n",
  routes: "routes: [{id: tickets, from: https://h.example.com, to: http://x, mcp: {}}]\n",
};

/** As long as listen.envoy_secret must be. */
const secret = "a-value-as-long-as-secrets-have-to-be-1";

/** The keys of a section of the routes file. */
function keysOfSection(schema: unknown): string[] {
  const { properties, anyOf } = JsonObject.parse(jsonSchemaOf(schema as z.ZodType));
  // A section may be left empty: an object, or null.
  return Object.keys(properties ?? anyOf?.[0]?.properties ?? {});
}
/** A value for each variable that an example names, also in comments. */
const environmentOf = (yaml: string, value: string): Record<string, string> =>
  Object.fromEntries(
    [...yaml.matchAll(/\$\{(\w+)\}/g)].map(([, name = ""]) => [
      name,
      name.startsWith("DATABASE_") ? "postgres://127.0.0.1/mcp" : value,
    ]),
  );

describe("docs/configuration.md", () => {
  it("has a smallest file that serve accepts, with the listeners of its default addresses", () => {
    const env = { ENVOY_SECRET: secret, OIDC_CLIENT_SECRET: secret };
    const loaded = loadConfig(configFile(examples[0]?.yaml ?? ""), env, { listeners: {} });
    expect(loaded.problems.map(formatProblem)).toEqual([]);
  });

  it.each(examples)("has a valid example in line $line", ({ yaml }) => {
    const left = Object.entries(rest).filter(([key]) => !new RegExp(`^${key}:`, "m").test(yaml));
    const pomerium = yaml.includes("idp_provider");
    const added = left.filter(([key]) => !pomerium || key === "policy").map(([, lines]) => lines);
    const file = configFile(added.join("") + yaml, 0o644);
    for (const [, path] of yaml.matchAll(/file:(\S+)/g)) {
      mkdirSync(dirname(join(dirname(file), path ?? "")), { recursive: true });
      writeFileSync(join(dirname(file), path ?? ""), "value");
    }
    expect(loadConfig(file, environmentOf(yaml, secret)).problems.map(formatProblem)).toEqual([]);
  });

  it("lists exactly the keys that are read at startup only, each of which exists", () => {
    const rows = [...text.matchAll(/^\| ((?:`[\w.]+`(?:, )?)+) \| at a restart\b/gm)];
    const listed = rows.flatMap(([, cell = ""]) => [...cell.matchAll(/`([\w.]+)`/g)].map(([, key]) => key));
    expect(listed.toSorted()).toEqual(Object.keys(restartKeys).toSorted());
    const fields = createFields({ folder: "/", env: {}, worldReadable: false, readFile: readNoFile });
    const { shape } = configSchema(fields);
    for (const key of Object.keys(restartKeys)) {
      const [section = "", name] = key.split(".");
      const schema: unknown = Reflect.get(shape, section);
      expect([key, name === undefined ? schema !== undefined : keysOfSection(schema).includes(name)]).toEqual(
        [key, true],
      );
    }
  });

  it("names every key", () => {
    const fields = createFields({ folder: "/", env: {}, worldReadable: false, readFile: readNoFile });
    const shapes = [configSchema(fields).shape, routeSchema(fields).shape];
    const keys = [...shapes.flatMap((shape) => Object.keys(shape)), ...Object.keys(policyVocabulary)];
    expect(keys.filter((key) => !new RegExp(`\\b${key}\\b`).test(text))).toEqual([]);
  });

  it("shows the actual defaults", () => {
    const [example] = examples.filter(({ yaml }) => yaml.includes("allowed_private_hosts"));
    const env = environmentOf(example?.yaml ?? "", "value");
    const given = loadConfig(configFile(`${example?.yaml}${rest.routes}${rest.policy}`), env);
    const bare = loadConfig(configFile(Object.values(rest).join("")), {});
    if (!given.ok || !bare.ok) throw new Error(given.problems.map(formatProblem).join("\n"));
    const { admin, ...envoy } = given.config.envoy;
    expect(admin).toBe("127.0.0.1:9901");
    expect(bare.config.envoy).toMatchObject(envoy);
    for (const section of ["listen", "encryption", "paths", "check", "log", "aggregation"] as const) {
      expect(given.config[section]).toEqual(bare.config[section]);
    }
    const { trustedIssuers, ...external } = given.config.externalTokens;
    expect(trustedIssuers).toHaveLength(1);
    expect(bare.config.externalTokens).toMatchObject(external);
    const { providers, ...signIn } = given.config.signIn;
    expect(providers[0]?.scopes).toEqual(bare.config.signIn.providers[0]?.scopes);
    expect(bare.config.signIn).toMatchObject(signIn);
    const { allowedPrivateHosts, allowedAsMetadataDomains, clientIdMetadataUrl, proxies, ...upstream } =
      given.config.upstreamOAuth;
    expect([proxies.https, bare.config.upstreamOAuth.proxies.https]).toEqual(["http://value", undefined]);
    expect([allowedPrivateHosts.length, allowedAsMetadataDomains.length]).toEqual([2, 1]);
    expect([clientIdMetadataUrl, bare.config.upstreamOAuth.clientIdMetadataUrl]).toEqual([
      expect.any(String),
      undefined,
    ]);
    expect(bare.config.upstreamOAuth).toMatchObject(upstream);
  });
});
