import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { type OpenServer, openServer } from "../../../dev/demo/open-server.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";

const key = "k-31415926";
const routeNames = ["none", "key", "headers"] as const;

describe("static credentials of the routes file, through Envoy", () => {
  let upstream: OpenServer;
  let stack: E2e;

  beforeAll(async () => {
    upstream = await openServer();
    // For the gateway and for the command that writes Envoy's configuration.
    vi.stubEnv("API_KEY", key);
    const route = (id: string, upstream_auth: unknown) => ({
      id,
      from: `https://${id}.test`,
      to: upstream.url,
      mcp: { server: { upstream_auth } },
    });
    stack = await startE2e({
      names: routeNames.map((routeName) => `${routeName}.test`),
      config: (config) => ({
        ...config,
        routes: [
          ...config.routes,
          route("none", "none"),
          // biome-ignore lint/suspicious/noTemplateCurlyInString: the routes file's own reference
          route("key", { api_key: { header: "X-Api-Key", value: "${API_KEY}" } }),
          // biome-ignore lint/suspicious/noTemplateCurlyInString: the routes file's own reference
          route("headers", { headers: { Authorization: "Bearer ${API_KEY}", "X-Tenant": "acme" } }),
        ],
      }),
    });
  });
  afterAll(async () => {
    vi.unstubAllEnvs();
    await stack?.close();
    await upstream?.close();
  });

  /** Connects as `user` with an MCP client that sends credential headers, calls a tool, and returns the headers that arrived. */
  async function arrivedAt(routeName: (typeof routeNames)[number], user: "alice" | "bob") {
    const client = await stack.client(user, `https://${routeName}.test`, {
      fetch: (input, init) => {
        const headers = new Headers(init?.headers);
        if (new URL(String(input)).hostname === `${routeName}.test`) headers.set("x-api-key", "smuggled");
        return stack.fetch(input, { ...init, headers });
      },
    });
    const connected = await client.connect();
    const said = await connected.callTool({ name: "greet", arguments: { name: user } });
    expect(JSON.stringify(said)).toContain(`Hello, ${user}!`);
    const headers = upstream.requests.at(-1)?.headers ?? [];
    expect(JSON.stringify(headers)).not.toContain(client.tokens()?.access_token);
    return (name: string) => headers.filter(([one]) => one.toLowerCase() === name).map(([, value]) => value);
  }

  it("none: the server gets no credential", async () => {
    const header = await arrivedAt("none", "alice");
    expect(header("authorization")).toEqual([]);
  });

  it("api_key: the server gets the key once, from the environment, whatever the client sends in that header", async () => {
    for (const user of ["alice", "bob"] as const) {
      const header = await arrivedAt("key", user);
      expect(header("x-api-key")).toEqual([key]);
      expect(header("authorization")).toEqual([]);
    }
  });

  it("headers: the server gets all of them, including Authorization", async () => {
    const header = await arrivedAt("headers", "alice");
    expect(header("authorization")).toEqual([`Bearer ${key}`]);
    expect(header("x-tenant")).toEqual(["acme"]);
  });

  it("the log does not contain the key", async () => {
    expect(await readFile(stack.sidecar().logFile, "utf8")).not.toContain(key);
  });
});
