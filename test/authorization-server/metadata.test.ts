import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AuthorizationServerStack, startAuthorizationServer } from "./start-authorization-server.ts";

let stack: AuthorizationServerStack;
beforeAll(async () => {
  stack = await startAuthorizationServer();
});
afterAll(() => stack.close());

const get = async (url: string) => {
  const response = await stack.fetch(url);
  return {
    status: response.status,
    headers: response.headers,
    body: await response.json().catch(() => undefined),
  };
};

describe("protected-resource metadata (RFC 9728)", () => {
  test.each([
    ["https://one.test", "", "https://one.test", "one"],
    ["https://one.test", "/any/path", "https://one.test/any/path", "one"],
    ["https://many.test", "/a", "https://many.test/a", "many-a"],
    ["https://many.test", "/b/sub", "https://many.test/b/sub", "many-b"],
  ])("%s%s", async (origin, path, resource, name) => {
    const { status, headers, body } = await get(`${origin}/.well-known/oauth-protected-resource${path}`);
    expect(status).toBe(200);
    expect(headers.get("access-control-allow-origin")).toBe("*");
    expect(body).toEqual({
      resource,
      authorization_servers: ["https://auth.test"],
      scopes_supported: ["mcp"],
      bearer_methods_supported: ["header"],
      resource_name: name,
    });
  });

  test.each([
    "https://many.test/.well-known/oauth-protected-resource",
    "https://auth.test/.well-known/oauth-protected-resource/x",
  ])("%s, where no MCP server is, is 404", async (url) => {
    expect(await get(url)).toMatchObject({ status: 404, body: { error: "not_found" } });
  });
});

describe("authorization-server metadata (RFC 8414)", () => {
  test("all endpoints in it answer", async () => {
    const { body } = await get("https://auth.test/.well-known/oauth-authorization-server");
    expect(body).toMatchObject({
      issuer: "https://auth.test",
      code_challenge_methods_supported: ["S256"],
      authorization_response_iss_parameter_supported: true,
      client_id_metadata_document_supported: true,
      response_types_supported: ["code"],
    });
    for (const [name, url] of Object.entries(body as Record<string, unknown>)) {
      if (name === "jwks_uri") expect(await get(String(url))).toMatchObject({ status: 200 });
      if (!name.endsWith("_endpoint") || name === "authorization_endpoint") continue;
      const response = await stack.fetch(String(url), { method: "POST" });
      expect([name, response.status]).not.toEqual([name, 404]);
      const preflight = await stack.fetch(String(url), {
        method: "OPTIONS",
        headers: { origin: "https://web.test" },
      });
      expect(preflight.status).toBe(204);
      expect(preflight.headers.get("access-control-allow-origin")).toBe("*");
      expect(preflight.headers.get("access-control-allow-headers")).toContain("Authorization");
    }
  });

  test("is also at the OpenID path", async () => {
    const oauth = await get("https://auth.test/.well-known/oauth-authorization-server");
    expect((await get("https://auth.test/.well-known/openid-configuration")).body).toEqual(oauth.body);
    expect((await get("https://one.test/.well-known/openid-configuration")).status).toBe(404);
  });

  test("is on route hosts for the 2025-03-26 revision", async () => {
    const { body } = await get("https://one.test/.well-known/oauth-authorization-server");
    expect(body).toMatchObject({
      issuer: "https://auth.test",
      authorization_endpoint: "https://one.test/.pomerium/mcp/authorize",
      token_endpoint: "https://auth.test/oauth/token",
    });
  });
});

test("the keys of identity assertions are published on route hosts, without private parts", async () => {
  for (const host of ["one.test", "many.test", "auth.test"]) {
    const { status, body } = await get(`https://${host}/.well-known/pomerium/jwks.json`);
    expect(status).toBe(200);
    expect(JSON.stringify(body)).not.toContain('"d"');
    expect(body).toMatchObject({ keys: [{ kty: "EC", crv: "P-256", kid: expect.any(String) }] });
  }
});

test("the endpoints exist only on the issuer's host", async () => {
  for (const path of ["/oauth/authorize", "/oauth/jwks", "/oauth/interaction/x"]) {
    expect((await stack.fetch(`https://one.test${path}`)).status).toBe(404);
  }
});
