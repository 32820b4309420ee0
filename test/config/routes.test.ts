import { describe, expect, it } from "vitest";
import { load } from "./load.ts";

describe("routes in Pomerium format", () => {
  it("reads from, to, name, description, logo_url, id and policy", () => {
    const { config } = load(`
  - id: github
    name: GitHub
    description: Code
    logo_url: https://github.com/logo.png
    from: https://MCP.example.com:443/github/
    to: http://github:8080/mcp
    policy: {allow: {or: [{domain: example.com}]}}
    mcp: {server: {}}`);
    expect(config.routes[0]).toMatchObject({
      id: "github",
      name: "GitHub",
      description: "Code",
      logoUrl: "https://github.com/logo.png",
      origin: "https://mcp.example.com",
      host: "mcp.example.com",
      prefix: "/github",
      resource: "https://mcp.example.com/github",
      upstream: "http://github:8080/mcp",
      upstreamPath: "/mcp",
      passIdentityHeaders: true,
      enabled: true,
      policy: [{ action: "allow", name: "routes[0].policy.allow.or" }],
    });
  });

  it("derives an id from `from` that is stable on reordering and distinguishes /a-b from /a/b", () => {
    const one = "\n  - {from: https://h.example.com/a-b, to: http://x, mcp: {}}";
    const two = "\n  - {from: https://h.example.com/a/b, to: http://y, mcp: {}}";
    const ids = (routes: string) => load(routes).config.routes.map(({ id }) => id);
    expect(ids(one + two)).toEqual(ids(two + one).toReversed());
    expect(new Set(ids(one + two)).size).toBe(2);
    expect(ids(one)[0]).toMatch(/^h-example-com-a-b-[0-9a-f]{8}$/);
  });

  it("treats several `to` as one upstream", () => {
    const { config } = load(
      "\n  - {from: https://h.example.com, to: [http://a:1/mcp, http://b:2/mcp], mcp: {}}",
    );
    expect(config.routes[0]).toMatchObject({
      to: ["http://a:1/mcp", "http://b:2/mcp"],
      upstream: "http://a:1/mcp",
      upstreamPath: "/mcp",
    });
  });

  it("reads JSON, which is YAML", () => {
    const { config } = load(`  [{"from": "https://h.example.com", "to": "http://x", "mcp": {"server": {}}}]`);
    expect(config.routes[0]?.resource).toBe("https://h.example.com");
  });

  it("uses Pomerium's prefix as the path of `from`", () => {
    const { config } = load("\n  - {from: https://h.example.com, prefix: /team/, to: http://x, mcp: {}}");
    expect(config.routes[0]?.resource).toBe("https://h.example.com/team");
  });
});

describe("MCP servers", () => {
  const mcp = (yaml: string, env: Record<string, string> = {}) =>
    load(`\n  - {from: https://h.example.com, to: http://x, mcp: ${yaml}}`, env).config.routes[0]?.mcp;
  const oauth =
    "{client_id: i, client_secret: s, endpoint: {auth_url: https://a/x, token_url: https://a/y, auth_style: header}, scopes: [r], authorization_url_params: {access_type: offline}}";

  it.each(["{}", "{server: {}}", "{server: }"])("%s uses discovery", (yaml) => {
    expect(mcp(yaml)).toMatchObject({ kind: "server", path: "/", auth: { type: "oauth" } });
    expect(mcp(yaml)).not.toHaveProperty("auth.endpoint");
  });

  it("reads the explicit form and the equivalent older flat form", () => {
    expect(mcp(`{server: {upstream_oauth2: ${oauth}}}`)).toMatchObject({
      auth: {
        type: "oauth",
        clientId: "i",
        clientSecret: "s",
        endpoint: { authUrl: "https://a/x", tokenUrl: "https://a/y" },
        authMethod: "client_secret_basic",
        scopes: ["r"],
        authorizationUrlParams: { access_type: "offline" },
      },
    });
    expect(mcp(`{upstream_oauth2: ${oauth}}`)).toEqual(mcp(`{server: {upstream_oauth2: ${oauth}}}`));
  });

  it("uses discovery if endpoint has only auth_style", () => {
    const auth = mcp("{server: {upstream_oauth2: {endpoint: {auth_style: params}}}}");
    expect(auth).toMatchObject({ auth: { type: "oauth", authMethod: "client_secret_post" } });
    expect(auth).not.toHaveProperty("auth.endpoint");
  });

  it("uses preregistered credentials with discovery without an endpoint", () => {
    const auth = mcp(
      "{server: {upstream_oauth2: {client_id: i, client_secret: s}, authorization_server_url: https://as}}",
    );
    expect(auth).toMatchObject({
      auth: { clientId: "i", clientSecret: "s", authorizationServerUrl: "https://as" },
    });
  });

  it("reads path, max_request_bytes and tools", () => {
    expect(mcp("{server: {path: /mcp, max_request_bytes: 64KiB, tools: {deny: [x]}}}")).toMatchObject({
      path: "/mcp",
      maxRequestBytes: 65_536,
      tools: { deny: ["x"] },
    });
  });
});

describe("MCP clients", () => {
  it.each([
    ["{client: {}}", undefined],
    ["{pass_upstream_access_token: true}", undefined],
    ["{client: {routes: [server]}}", ["server"]],
  ])("%s is client mode", (yaml, routes) => {
    const { config } = load(
      `\n  - {id: server, from: https://s.example.com, to: http://x, mcp: {}}\n  - {from: https://h.example.com, to: http://x, mcp: ${yaml}}`,
    );
    expect(config.routes[1]?.mcp).toEqual(
      routes === undefined ? { kind: "client" } : { kind: "client", routes },
    );
  });
});

describe("upstream credentials other than OAuth", () => {
  const auth = (yaml: string, env: Record<string, string> = {}) => {
    const mcp = load(
      `\n  - {from: https://h.example.com, to: http://x, mcp: {server: {upstream_auth: ${yaml}}}}`,
      env,
    ).config.routes[0]?.mcp;
    return mcp?.kind === "server" ? mcp.auth : undefined;
  };
  it.each([
    ["none", { type: "none" }],
    ["{api_key: {header: X-Api-Key, value: k}}", { type: "api_key", headers: [["x-api-key", "k"]] }],
    [
      "{headers: {X-A: a, X-B: b}}",
      {
        type: "headers",
        headers: [
          ["x-a", "a"],
          ["x-b", "b"],
        ],
      },
    ],
    [
      "{token_exchange: {token_url: https://a/t, client_id: i, audience: u}}",
      {
        type: "token_exchange",
        tokenUrl: "https://a/t",
        settings: { subjectToken: "external_token", audience: "u" },
      },
    ],
    [
      "{client_credentials: {client_id: i, client_secret: s, auth_style: params}}",
      { type: "client_credentials", clientSecret: "s", authMethod: "client_secret_post" },
    ],
    [
      "{id_jag: {idp_client_id: a, client_id: b}}",
      { type: "id_jag", clientId: "b", settings: { idpClientId: "a" } },
    ],
  ])("reads %s", (yaml, expected) => {
    expect(auth(yaml)).toMatchObject(expected);
  });

  it("reads secrets from the environment, also within a value", () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the file's syntax
    expect(auth('{headers: {Authorization: "Token ${KEY}"}}', { KEY: "k" })).toMatchObject({
      headers: [["authorization", "Token k"]],
    });
  });
});

describe("the route table", () => {
  const { table } = load(`
  - {id: root, from: https://h.example.com, to: http://x, mcp: {}}
  - {id: a, from: https://h.example.com/a, to: http://x, mcp: {}}
  - {id: ab, from: https://h.example.com/a/b, to: http://x, mcp: {}}
  - {id: port, from: https://h.example.com:8443, to: http://x, mcp: {}}
  - {id: deep, from: https://d.example.com/only/here, to: http://x, mcp: {}}`);

  it.each([
    ["h.example.com", "/", "root"],
    ["h.example.com", "/a", "a"],
    ["h.example.com", "/a/", "a"],
    ["h.example.com", "/a/bc", "a"],
    ["h.example.com", "/a/b/c/d", "ab"],
    ["h.example.com", "/ab", "root"],
    ["H.Example.COM:443", "/a", "a"],
    ["h.example.com:8443", "/a", "port"],
    ["h.example.com:8444", "/", undefined],
    ["h.example.com.", "/", undefined],
    ["user@h.example.com", "/", undefined],
    ["", "/", undefined],
    ["hé.example.com", "/", undefined],
    ["h.example.com:0443", "/", undefined],
    ["h.example.com:08443", "/a", undefined],
    ["h.example.com:0", "/", undefined],
    ["h.example.com:99999", "/", undefined],
    ["h.example.com", "", undefined],
    ["h.example.com", "*", undefined],
    ["d.example.com", "/only", undefined],
    ["d.example.com", "/only/here/x", "deep"],
    ["other.example.com", "/", undefined],
  ])("finds for %s%s: %s", (host, path, id) => {
    expect(table.find(host, path)?.id).toBe(id);
  });

  it.each([
    ["https://h.example.com", "root"],
    ["https://h.example.com/", "root"],
    ["https://H.example.com:443/a/b/deeper", "ab"],
    ["http://h.example.com/a", undefined],
    ["https://u@h.example.com/a", undefined],
    ["https://h.example.com/a#f", undefined],
    ["not a url", undefined],
  ])("finds the route of the resource %s: %s", (resource, id) => {
    expect(table.byResource(resource)?.id).toBe(id);
  });

  it.each([
    ["h.example.com", "/.pomerium/mcp/routes", true],
    ["h.example.com", "/.pomeriums", false],
    ["h.example.com", "/.well-known/oauth-protected-resource/a", true],
    ["h.example.com", "/.well-known/pomerium/jwks.json", true],
    ["h.example.com", "/oauth/token", false],
    ["auth.example.com", "/oauth/token", true],
    ["auth.example.com", "/other", false],
    ["stranger.example.com", "/.pomerium", false],
  ])("decides whether the gateway itself serves %s%s: %s", (host, path, own) => {
    expect(table.isOwnPath(host, path)).toBe(own);
  });

  it("knows the hosts of the issuer and of the routes", () => {
    expect(
      ["auth.example.com", "h.example.com:443", "x.example.com"].map((host) => table.hasHost(host)),
    ).toEqual([true, true, false]);
    expect(table.byId("ab")?.prefix).toBe("/a/b");
  });
});
