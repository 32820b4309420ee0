import { describe, expect, it } from "vitest";
import { loadConfig } from "../../src/config/load-config.ts";
import { pomeriumKeys } from "../../src/config/pomerium.ts";
import { configFile } from "./config-file.ts";
import { problemsOf } from "./problems-of.ts";

const route =
  "  - {from: https://h.example.com, to: http://x, policy: {allow: {or: [{accept: true}]}}, mcp: {}}\n";
const top =
  "issuer: https://auth.example.com\nsign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}\n";

describe("a Pomerium configuration file", () => {
  it("works with its keys for the issuer, the provider and the MCP domains", () => {
    const loaded = loadConfig(
      configFile(`authenticate_service_url: https://auth.example.com
idp_provider: oidc
idp_provider_url: https://id.example.com
idp_client_id: client
idp_client_secret: secret
idp_scopes: [openid, groups]
mcp_allowed_client_id_domains: ["*.example.com"]
mcp_allowed_as_metadata_domains: [as.example.com]
log_level: debug
cookie_expire: 8h
pass_identity_headers: false
runtime_flags: {mcp: true}
routes:
${route}`),
      {},
    );
    expect(loaded.problems).toEqual([
      expect.objectContaining({ severity: "warning", path: "mcp_allowed_client_id_domains", line: 7 }),
      expect.objectContaining({ severity: "warning", path: "runtime_flags", line: 12 }),
    ]);
    expect(loaded.ok && loaded.config).toMatchObject({
      issuer: "https://auth.example.com",
      signIn: {
        sessionTtl: 28_800,
        providers: [
          {
            id: "oidc",
            issuer: "https://id.example.com",
            clientId: "client",
            clientSecret: "secret",
            scopes: ["openid", "groups"],
          },
        ],
      },
      authorizationServer: { allowedClientIdDomains: ["*.example.com"] },
      upstreamOAuth: { allowedAsMetadataDomains: ["as.example.com"] },
      log: { level: "debug" },
      routes: [{ passIdentityHeaders: false }],
    });
  });

  it("problems refer to the key as written", () => {
    expect(
      problemsOf(
        `authenticate_service_url: http://auth.example.com\nidp_provider: oidc\nidp_provider_url: 7\nidp_client_id: c\nmcp_allowed_client_id_domains: ["https://x"]\nroutes:\n${route}`,
      ),
    ).toEqual([
      expect.stringMatching(/^1:27 error authenticate_service_url: http: is for localhost only/),
      expect.stringMatching(/^3:19 error idp_provider_url: /),
      expect.stringMatching(
        /^5:33 error mcp_allowed_client_id_domains\[0\]: "https:\/\/x" is not a host pattern/,
      ),
    ]);
  });

  it("is rejected if a setting is present under both keys", () => {
    expect(problemsOf(`${top}authenticate_service_url: https://b.example.com\nroutes:\n${route}`)).toEqual([
      "3:1 error authenticate_service_url: authenticate_service_url and issuer are the same setting -> keep issuer",
    ]);
  });

  it("is rejected with an empty list of domains, which means none in Pomerium and any here", () => {
    expect(problemsOf(`${top}mcp_allowed_client_id_domains: []\nroutes:\n${route}`)).toEqual([
      expect.stringMatching(/3:32 error mcp_allowed_client_id_domains: .* is empty/),
    ]);
  });

  it("with routes under policy, reports that the key must be renamed", () => {
    expect(problemsOf(`${top}policy:\n${route}`).join("\n")).toMatch(
      /3:1 error policy: these are routes.*rename policy: to routes:/,
    );
  });

  const levels = Object.entries(pomeriumKeys).flatMap(([level, keys]) =>
    Object.entries(keys).map(([key, { verdict }]) => [level, key, verdict] as const),
  );
  it.each(levels)("reports the %s key %s: %s", (level, key, verdict) => {
    const file =
      level === "global"
        ? `${top}${key}: x\nroutes:\n${route}`
        : `${top}routes:\n${route.replace("mcp: {}", `${key}: x, mcp: {}`)}`;
    const path = level === "global" ? key : `routes[0].${key}`;
    const problems = problemsOf(file);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(
      verdict === "warn" ? / warning .* has no effect: .* -> / : / error .* is not supported: .* -> /,
    );
    expect(problems[0]).toContain(` ${path}: `);
  });

  it("only warns of a disabled switch, which has no effect", () => {
    const problems = problemsOf(
      `${top}routes:\n${route.replace("mcp: {}", "allow_public_unauthenticated_access: false, mcp: {}")}`,
    );
    expect(problems).toEqual([
      expect.stringMatching(/warning routes\[0\]\.allow_public_unauthenticated_access/),
    ]);
  });
});
