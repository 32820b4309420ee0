import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadConfig } from "../../src/config/load-config.ts";
import { normalPath, upstreamPath } from "../../src/config/paths.ts";
import type { Route } from "../../src/model/route.ts";
import { type E2e, startE2e } from "../support/e2e.ts";
import { throughEnvoy } from "../support/through-envoy.ts";

const mcp = { server: { upstream_auth: "none" } };
const rules = [
  { allow: { and: [{ accept: true }] } },
  { deny: { and: [{ http_path: { starts_with: "/admin" } }] } },
];
const only = [{ allow: { and: [{ http_path: { starts_with: "/mcp/public/" } }] } }];

describe("Alternative spellings of paths, through Envoy", () => {
  let stack: E2e;
  let server: Server;
  let routes: readonly Route[];
  const seen: string[] = [];
  const tokens: Record<string, string> = {};

  beforeAll(async () => {
    server = createServer((request, response) => {
      seen.push(request.url ?? "");
      request.resume();
      response.writeHead(204).end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const to = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    stack = await startE2e({
      names: ["root.test", "plain.test", "only.test"],
      config: (config) => {
        const open = config.routes.find(({ id }) => id === "open");
        config.routes.push(
          { id: "token", from: "https://root.test/token", to: open?.to, mcp },
          { id: "root", from: "https://root.test", to: `${to}/mcp`, mcp, policy: rules },
          { id: "team", from: "https://root.test/team", to: `${to}/mcp`, mcp, policy: rules },
          { id: "deep", from: "https://root.test/deep", to: `${to}/a/b/`, mcp },
          { id: "plain", from: "https://plain.test", to, mcp, policy: rules },
          { id: "only", from: "https://only.test", to: `${to}/mcp`, mcp, policy: only },
        );
        return config;
      },
    });
    const loaded = loadConfig(stack.configFile, {});
    if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
    routes = loaded.config.routes;
    for (const { id, resource } of routes.filter(({ to: [first] }) => first?.startsWith(to)))
      tokens[id] = await tokenFor(resource);
  });
  afterAll(async () => {
    await stack?.close();
    server?.closeAllConnections();
    server?.close();
  });

  /** A token is obtained without calling the upstream, so no MCP server is needed. */
  async function tokenFor(resource: string): Promise<string> {
    const client = await stack.client("alice", resource);
    await client.connect().catch(() => {});
    const token = client.tokens()?.access_token;
    if (!token) throw new Error(`no token for ${resource}`);
    return token;
  }
  /** The request as the upstream saw it. */
  async function ask(id: string, path: string): Promise<{ status: number; seen: readonly string[] }> {
    const before = seen.length;
    const url = routes.find((route) => route.id === id)?.origin ?? "";
    const headers = { authorization: `Bearer ${tokens[id]}` };
    const { status } = await throughEnvoy(stack, { url, path, method: "GET", headers });
    return { status, seen: seen.slice(before).map((one) => one.split("?")[0] ?? "") };
  }

  it.each([
    "/admin",
    "/admin/",
    "/admin/users",
    "//admin",
    "/%61dmin",
    "/adm%69n/users",
    "/ADMIN",
    "/admin;x=1",
    "/;x/admin",
    "/admin%3bx",
    "/%2561dmin",
    "/admin.",
    "/admin%20",
    "/admin%3F",
    "/.;/admin",
    "/mcp/admin",
    "/mcp//admin",
    "/mcp/%61dmin",
    "/mcp/;/admin;x=1",
    "/mcp/ADMIN/",
    "/mcp/%252e%252e/admin",
    "/%EF%BD%81dmin",
  ])("%s does not bypass a deny rule on /admin", async (path) => {
    for (const [id, from] of [
      ["root", ""],
      ["team", "/team"],
      ["plain", ""],
    ] as const) {
      const reached = (await ask(id, from + path)).seen;
      // Without a path in `to`, this is a different path.
      const elsewhere = id === "plain" && path.startsWith("/mcp");
      if (!elsewhere) expect(reached, `${id} ${path}`).toEqual([]);
    }
  });

  it("does not match an allow rule", async () => {
    expect((await ask("only", "/public/a")).seen).toEqual(["/mcp/public/a"]);
    expect((await ask("only", "/mcp/public/a")).seen).toEqual(["/mcp/public/a"]);
    for (const path of ["/admin", "/mcp/admin", "/public;/a", "/public/%252e%252e/admin", "/public"])
      expect((await ask("only", path)).seen, path).toEqual([]);
  });

  it.each(["//", "///", "//?x=1"])("%s is the route itself", async (path) => {
    expect((await ask("root", path)).seen).toEqual(["/mcp"]);
    expect((await ask("team", `/team${path}`)).seen).toEqual(["/mcp"]);
    expect((await ask("plain", path)).seen).toEqual(["/"]);
  });

  it("checks the path that the upstream sees, in any spelling", async () => {
    const segment = fc.constantFrom(
      "mcp",
      "team",
      "deep",
      "a",
      "b",
      "%6Dcp",
      "%c3%a9",
      "x;y=1",
      "",
      "%20",
      "a.b",
      "%7e",
      "..x",
      "@",
    );
    const paths = fc.array(segment, { maxLength: 5 }).map((parts) => `/${parts.join("/")}`);
    const passed: string[] = [];
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(["root", ""], ["team", "/team"], ["deep", "/deep"]),
        paths,
        async ([id = "", from], rest) => {
          const route = routes.find((one) => one.id === id);
          const answer = await ask(id, from + rest);
          if (answer.seen.length === 0 || route === undefined) return;
          passed.push(rest);
          const path = normalPath(from + rest);
          expect(answer.seen.map(normalPath)).toEqual([upstreamPath(route, path)]);
        },
      ),
      { numRuns: 120 },
    );
    expect(passed.length).toBeGreaterThan(0);
  });
});
