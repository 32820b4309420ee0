import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { StackConfig } from "../../dev/demo/stack-config.ts";
import { type E2e, startE2e } from "../support/e2e.ts";
import { throughEnvoy } from "../support/through-envoy.ts";
import { type ScriptedServer, scriptedServer } from "../upstream-oauth/scripted-server.ts";

/** Only a host in `to`, nothing in `server`: the example that everyone copies. */
describe("a server whose endpoint is below `to`, through Envoy", () => {
  let stack: E2e;
  let plain: ScriptedServer;
  const endpoint = "https://everything.test/mcp";
  const byHand = "https://byhand.test";
  /** The gateway's client at the upstream's authorization server, without its endpoints. */
  const clientOf = ({ routes }: StackConfig) => {
    const { client_id, client_secret } = Object(routes[0]?.mcp).server.upstream_oauth2;
    return { client_id, client_secret };
  };

  beforeAll(async () => {
    plain = await scriptedServer();
    const none = { server: { upstream_auth: "none" } };
    stack = await startE2e({
      upstream: { dynamicRegistration: true },
      names: ["team.test", "shared.test", "nobody.test", "byhand.test"],
      redirectUris: ["https://byhand.test/.pomerium/mcp/client/oauth/callback"],
      config: (defaults) => ({
        ...defaults,
        routes: [
          {
            id: "byhand",
            from: byHand,
            to: new URL(String(defaults.routes[0]?.to)).origin,
            mcp: { server: { upstream_oauth2: clientOf(defaults) } },
          },
          {
            id: "everything",
            from: "https://everything.test",
            to: new URL(String(defaults.routes[0]?.to)).origin,
            mcp: { server: {} },
          },
          { id: "open", from: "https://open.test", to: String(defaults.routes[1]?.to), mcp: none },
          { id: "team", from: "https://team.test/team", to: `${plain.url}/mcp`, mcp: none },
          {
            id: "stripped",
            from: "https://shared.test/one",
            to: `${plain.url}/`,
            prefix_rewrite: "/",
            mcp: none,
          },
          {
            id: "queried",
            from: "https://shared.test/two",
            to: `${plain.url}/api?project=1&features=a%20b,c%2Cd`,
            mcp: none,
          },
        ],
      }),
    });
    for (const path of ["/mcp", "/mcp/", "/", "/x", "/team", "/api", "/api/x"])
      plain.on(path, ({ method, headers, path: seen, query, body }) => {
        if (method === "GET")
          return headers.accept?.includes("event-stream")
            ? { status: 405 }
            : { body: { path: seen, query: query.toString() } };
        const { id, method: asked } = JSON.parse(body);
        if (asked !== "initialize") return { status: 202, body: "" };
        const serverInfo = { name: "plain", version: "1" };
        const result = { protocolVersion: "2025-06-18", capabilities: {}, serverInfo };
        return { body: { jsonrpc: "2.0", id, result } };
      });
  });
  afterAll(() => Promise.all([stack?.close(), plain?.close()]));

  /** A request as the upstream saw it. */
  const seen = async (url: string, token: string, more: { path?: string } = {}) => {
    const answer = await throughEnvoy(stack, { url, ...more, headers: { authorization: `Bearer ${token}` } });
    return answer.status === 200 ? JSON.parse(answer.body) : answer.status;
  };

  test("the SDK's client connects in one flow, with an authorization server that binds audiences to the endpoint", async () => {
    const client = await stack.client("alice", endpoint);
    const whoami = () => client.run((mcp) => mcp.callTool({ name: "whoami", arguments: {} }));
    expect(JSON.stringify(await whoami())).toContain("ally");
    expect(client.authorizations()).toBe(1);
    // A refresh requests the same resource.
    await stack.upstream.killAccessTokens("ally");
    expect(JSON.stringify(await whoami())).toContain("ally");
    expect(client.authorizations()).toBe(1);
    // Scopes that a tool requires are requested for the same endpoint.
    await client.run((mcp) => mcp.callTool({ name: "write_note", arguments: { text: "hello" } }));
    expect(client.authorizations()).toBe(2);
    const browser = stack.browser("alice");
    const portal = await browser.open("https://auth.test/.pomerium/routes");
    expect(portal.html).toContain("Disconnect");
  });

  test("the same with a client registered by hand: consent and refreshes name the endpoint", async () => {
    const client = await stack.client("bob", `${byHand}/mcp`);
    const whoami = () => client.run((mcp) => mcp.callTool({ name: "whoami", arguments: {} }));
    expect(JSON.stringify(await whoami())).toContain("bobby");
    expect(client.authorizations()).toBe(1);
    await stack.upstream.killAccessTokens("bobby");
    expect(JSON.stringify(await whoami())).toContain("bobby");
    expect(client.authorizations()).toBe(1);
  });

  test("doctor and listings find it before any client has requested it", async () => {
    const said = await stack.command("doctor", "everything");
    expect(said).toContain("/.well-known/oauth-protected-resource/mcp");
    expect(said).toContain("Users can connect");
    const listing = await stack.browser("alice").open("https://auth.test/.pomerium/mcp/routes");
    const { servers } = JSON.parse(listing.html) as { servers: { url: string; connected: boolean }[] };
    expect(servers).toContainEqual(expect.objectContaining({ url: endpoint, connected: true }));
  });

  test("`from` with a trailing slash is the same endpoint; the upstream's path is sent as configured", async () => {
    const token = await stack.externalToken("alice", "https://team.test/team");
    for (const [path, upstream] of [
      ["/team", "/mcp"],
      ["/team/", "/mcp"],
      ["//team//", "/mcp"],
      ["/te%61m/", "/mcp"],
      ["/team/mcp", "/mcp"],
      ["/team/mcp/", "/mcp/"],
    ] as const)
      expect([path, await seen("https://team.test", token, { path })]).toMatchObject([
        path,
        { path: upstream },
      ]);
    expect(await seen("https://team.test", token, { path: "/team%2Fmcp" })).toBe(400);
  });

  test("prefix_rewrite: / removes the prefix", async () => {
    const token = await stack.externalToken("alice", "https://shared.test/one/mcp");
    for (const [path, upstream] of [
      ["/one", "/"],
      ["/one/", "/"],
      ["/one/mcp", "/mcp"],
      ["/one/x?y=1", "/x"],
    ] as const)
      expect([path, await seen("https://shared.test", token, { path })]).toMatchObject([
        path,
        { path: upstream },
      ]);
    // Of two routes on one host, the longest prefix decides, also for tokens.
    expect(await seen("https://shared.test/two", token)).toBe(401);
  });

  test("a query in `to` is sent with every request, and no client can replace it", async () => {
    const token = await stack.externalToken("alice", "https://shared.test/two");
    const own = "project=1&features=a+b,c,d";
    for (const [path, upstream, query] of [
      ["/two", "/api", own],
      ["/two/x?a=b", "/api/x", `a=b&${own}`],
      ["/two?project=2", "/api", own],
      ["/two?project=2&project=3&a=b", "/api", `a=b&${own}`],
      ["/two?%70roject=2", "/api", own],
      ["/two?a=1;project=2", "/api", own],
      ["/two?Project=2&project[]=3&projects=4", "/api", `projects=4&${own}`],
      ["//two?&&a=%2F&b&c=", "/api", `a=/&b=&c=&${own}`],
    ] as const) {
      const answer = await seen("https://shared.test", token, { path });
      const sorted = (text: string) => [...new URLSearchParams(text)].map(String).toSorted();
      expect([path, answer.path, sorted(answer.query)]).toEqual([path, upstream, sorted(query)]);
    }
  });

  test.each([
    ["/team/mcp?access_token=never-shown", "belong in the Authorization header"],
    ["/.well-known/oauth-protected-resource/elsewhere", "No MCP server at team.test/elsewhere"],
  ])("a browser gets a page with the reason and the request id for %s, too", async (path, fact) => {
    const accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    const get = (headers: Record<string, string>) =>
      throughEnvoy(stack, { url: "https://team.test", path, headers });
    const page = await get({ accept, "sec-fetch-mode": "navigate" });
    const client = await get({ accept: "application/json" });
    expect(page.status).toBe(client.status);
    expect(page.header("content-type")).toBe("text/html; charset=utf-8");
    expect(page.header("content-security-policy")).toContain("default-src 'none'");
    expect(page.body).toContain(fact);
    expect(page.body).toMatch(/Request id.*<code>[\w.:-]{8,64}<\/code>/);
    expect(page.body).not.toContain("never-shown");
    expect(client.header("content-type")).toMatch(/^application\/json/);
    expect(JSON.parse(client.body)).toMatchObject({ request_id: expect.any(String) });
  });

  test("a request that Envoy rejects for its path gets a page with the reason and the time, since it has no id yet", async () => {
    const get = (accept: string) =>
      throughEnvoy(stack, { url: "https://team.test", path: "/team%2Fmcp", headers: { accept } });
    const page = await get("text/html");
    const client = await get("application/json");
    expect([page.status, page.header("content-type")]).toEqual([400, "text/html; charset=utf-8"]);
    expect(page.body).toContain("encoded slash");
    expect(page.body).toMatch(/log: <code>\d{4}-\d\d-\d\dT[\d:.]+Z<\/code>/);
    expect(client.status).toBe(400);
    expect(JSON.parse(client.body)).toMatchObject({ error: "bad_path", hop: "client" });
  });

  test("a browser gets pages instead of JSON, with the same status and challenge", async () => {
    const accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for (const [url, status, fact] of [
      [endpoint, 401, `<code>${endpoint}</code>`],
      ["https://team.test/team", 401, "<code>https://team.test/team</code>"],
      ["https://team.test/", 404, "This is an MCP gateway"],
      ["https://auth.test/", 404, "This is an MCP gateway"],
      ["https://auth.test/index.php", 404, "This is an MCP gateway"],
      ["https://nobody.test/", 404, "Nothing is served here"],
    ] as const) {
      const page = await throughEnvoy(stack, { url, headers: { accept, "sec-fetch-mode": "navigate" } });
      const client = await throughEnvoy(stack, { url, headers: { accept: "application/json" } });
      expect([url, page.status, client.status]).toEqual([url, status, status]);
      expect(page.header("content-type")).toBe("text/html; charset=utf-8");
      expect(page.header("content-security-policy")).toContain("default-src 'none'");
      expect(page.body).toContain(fact);
      expect(page.body).toContain('href="https://auth.test/.pomerium/routes"');
      expect(page.header("www-authenticate")).toBe(client.header("www-authenticate"));
      expect(client.header("content-type")).toBe("application/json");
      expect(JSON.parse(client.body)).toMatchObject({ request_id: expect.any(String) });
    }
  });
});
