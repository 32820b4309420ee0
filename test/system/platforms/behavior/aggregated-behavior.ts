import { readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { certificateAuthority } from "../../../../dev/demo/certificate-authority.ts";
import type { StackConfig } from "../../../../dev/demo/stack-config.ts";
import type { E2e } from "../../../support/e2e.ts";
import { pingThroughEnvoy } from "../../../support/ping-through-envoy.ts";
import { throughEnvoy } from "../../../support/through-envoy.ts";
import { initialize, mcpHeaders } from "./token-behavior.ts";

const url = "https://all.test";
const poll = { timeout: 60_000 };

/** The routes file with both servers behind one URL, on a host of its own. */
export function withAggregatedRoute(config: StackConfig): StackConfig {
  const all = {
    id: "all",
    name: "Everything at once",
    from: url,
    mcp: { aggregate: { routes: ["everything", "open"] } },
  };
  return { ...config, routes: [...config.routes, all] };
}

/** An aggregated route (`withAggregatedRoute`) whose members the sidecar calls through another gateway: `aggregation.through`. */
export function aggregatedBehavior(running: () => E2e): void {
  describe("one URL for both servers", () => {
    let stack: E2e;
    let client: Client;
    let token: string;
    beforeAll(async () => {
      stack = running();
      const alice = await stack.client("alice", url);
      client = await alice.connect();
      token = alice.tokens()?.access_token ?? "";
    });

    const called = async (name: string, args: Record<string, unknown> = {}) =>
      JSON.stringify((await client.callTool({ name, arguments: args })).content);

    it("lists the tools of both, and calls each with its own credential", async () => {
      const names = (await client.listTools()).tools.map(({ name }) => name);
      expect(names).toEqual(
        expect.arrayContaining(["everything__echo", "everything__whoami", "open__greet"]),
      );
      expect(await called("everything__whoami")).toContain("ally");
      expect(await called("open__greet", { name: "Alice" })).toContain("Hello, Alice!");
      expect((await called("open__headers")).toLowerCase()).not.toContain("authorization");
    });

    it("neither lists nor passes on a tool that the server's route denies", async () => {
      const names = (await client.listTools()).tools.map(({ name }) => name);
      expect(names).not.toContain("everything__add");
      const before = stack.everything.requests.length;
      await expect(called("everything__add", { a: 1, b: 2 })).rejects.toThrow(
        '[Everything] The tool "add" is not allowed',
      );
      const arrived = stack.everything.requests.slice(before).filter(({ body }) => body.includes('"add"'));
      expect(arrived).toEqual([]);
    });

    it("passes progress on while the call runs", async () => {
      const seen: string[] = [];
      const call = client.callTool({ name: "everything__follow", arguments: {} }, undefined, {
        onprogress: ({ message }) => seen.push(String(message)),
      });
      await stack.everything.followed();
      stack.everything.emit("halfway");
      await expect.poll(() => seen, poll).toEqual(["halfway"]);
      stack.everything.finish();
      expect(JSON.stringify((await call).content)).toContain("followed 1");
    });

    it("is checked like every route, and its token is valid there only", async () => {
      const begin = (headers: Record<string, string> = {}) =>
        throughEnvoy(stack, {
          url,
          method: "POST",
          headers: { ...mcpHeaders, ...headers },
          body: initialize,
        });
      const unknown = await begin();
      expect([unknown.status, unknown.header("www-authenticate")]).toEqual([
        401,
        expect.stringContaining(`${url}/.well-known/oauth-protected-resource`),
      ]);
      expect((await begin({ authorization: `Bearer ${token}` })).status).toBe(200);
      const forOpen = await stack.externalToken("alice", stack.urls.open);
      expect((await begin({ authorization: `Bearer ${forOpen}` })).status).toBe(401);
      expect((await pingThroughEnvoy(stack, stack.urls.open, token)).status).toBe(401);
    });

    it("calls no server through a gateway whose certificate is not from the CA in aggregation.ca", async () => {
      const folder = join(dirname(stack.configFile), "another-ca");
      const { files } = await certificateAuthority(folder);
      const text = await readFile(stack.configFile, "utf8");
      const config = parse(text);
      // The names in its certificate are right.
      const other = stringify({ ...config, aggregation: { ...config.aggregation, ca: files.ca } });
      const answer = () => called("open__greet", { name: "Alice" }).catch(String);
      await writeFile(stack.configFile, other);
      try {
        await expect.poll(answer, poll).toMatch(/Open cannot be reached/);
        const before = stack.open.requests.length;
        expect(await answer()).toMatch(/Open cannot be reached/);
        expect(stack.open.requests.length).toBe(before);
      } finally {
        await writeFile(stack.configFile, text);
        await rm(folder, { recursive: true });
      }
      await expect.poll(answer, poll).toContain("Hello, Alice!");
    });
  });
}
