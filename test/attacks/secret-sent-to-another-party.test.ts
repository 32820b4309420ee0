import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { problemsOf } from "../config/problems-of.ts";

const root = join(import.meta.dirname, "../..");
const env = { OIDC_SECRET: "a", KEY: "b", ADMIN_TOKEN: "c".repeat(40), ENCRYPTION_KEY: "d" };
const file = (routes: string) => `issuer: https://auth.test
sign_in: {providers: [{id: company, issuer: https://id.test, client_id: gateway, client_secret: "\${OIDC_SECRET}"}]}
admin_api: {admin_tokens: ["\${ADMIN_TOKEN}"]}
policy: {allow: {and: [{authenticated_user: true}]}}
routes:
${routes}
`;
const route = (id: string, to: string, auth: string) =>
  `  - {id: ${id}, from: https://${id}.test, to: "${to}", mcp: {server: {upstream_auth: {${auth}}}}}`;
const key = (name: string) => `api_key: {header: x-api-key, value: "\${${name}}"}`;

describe("a vendor receives a secret that is valid elsewhere", () => {
  it.each([
    ["OIDC_SECRET", "the OAuth client gateway"],
    ["ADMIN_TOKEN", "the admin API"],
    ["ENCRYPTION_KEY", "the database's encryption"],
  ])("as an API key: check-config warns (%s)", (name, owner) => {
    expect(problemsOf(file(route("tickets", "https://vendor.test/mcp", key(name))), env)).toEqual([
      expect.stringContaining(
        `warning routes[0].mcp.server.upstream_auth.api_key.value: ${name} is the secret of ${owner}, too`,
      ),
    ]);
  });

  it("as part of a header: check-config warns", () => {
    const auth = `headers: {Authorization: "Bearer \${OIDC_SECRET}"}`;
    expect(problemsOf(file(route("tickets", "https://vendor.test/mcp", auth)), env)).toEqual([
      expect.stringContaining("headers.Authorization: OIDC_SECRET is the secret of the OAuth client gateway"),
    ]);
  });

  it("as another upstream's key: check-config warns, except for two routes to the same upstream", () => {
    const one = route("one", "https://vendor.test/mcp", key("KEY"));
    expect(problemsOf(file(`${one}\n${route("two", "https://vendor.test/other", key("KEY"))}`), env)).toEqual(
      [],
    );
    expect(problemsOf(file(`${one}\n${route("two", "https://other.test/mcp", key("KEY"))}`), env)).toEqual([
      expect.stringContaining(
        "routes[1].mcp.server.upstream_auth.api_key.value: KEY is the secret of the upstream vendor.test",
      ),
    ]);
  });

  it("the same client at the same provider is not a conflict", () => {
    const auth = `token_exchange: {token_url: "https://id.test/token", client_id: gateway, client_secret: "\${OIDC_SECRET}"}`;
    expect(problemsOf(file(route("exchange", "https://vendor.test/mcp", auth)), env)).toEqual([]);
  });

  it("no page or sample of this repository does so", () => {
    const pages = ["README.md", ...readdirSync(join(root, "docs")).map((name) => `docs/${name}`)]
      .filter((name) => name.endsWith(".md"))
      .flatMap((name) => {
        const blocks = readFileSync(join(root, name), "utf8").matchAll(/^```(?:yaml|sh)\n(.*?)^```$/gms);
        return [...blocks].map(([, block = ""]) => ({
          name,
          block: /<<'YAML'\n(.*?)^YAML$/ms.exec(block)?.[1] ?? block,
        }));
      });
    const samples = ["deploy/compose/routes.yaml"].map((name) => ({
      name,
      block: readFileSync(join(root, name), "utf8"),
    }));
    const files = [...pages, ...samples].filter(({ block }) => /^issuer: /m.test(block));
    expect(files.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["README.md", "docs/quickstart.md"]),
    );
    for (const { name, block } of files) {
      const names = [...block.matchAll(/\$\{([A-Z_]+)\}/g)].map(([, one = ""]) => [
        one,
        `${one}${"x".repeat(40)}`,
      ]);
      const problems = problemsOf(block, Object.fromEntries(names));
      expect(
        problems.filter((problem) => problem.includes("is the secret of")),
        name,
      ).toEqual([]);
    }
  });
});
