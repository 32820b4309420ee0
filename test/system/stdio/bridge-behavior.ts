import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ListRootsRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { expect, it } from "vitest";
import type { StdioPage } from "./stdio-page.ts";

/** Attacks on the bridge, by a neighbour on its machine and by users. */
export function bridgeBehavior(page: () => StdioPage): void {
  const token = () =>
    parseEnv(readFileSync(join(page().folder, "gateway/secrets.env"), "utf8")).MCP_BRIDGE_TOKEN ?? "";
  const json = { "content-type": "application/json", accept: "application/json, text/event-stream" };
  const initialize = (headers: Record<string, string>, signal?: AbortSignal) =>
    fetch(page().bridge("time"), {
      method: "POST",
      ...(signal && { signal }),
      headers: { ...json, ...headers },
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: 1,
        method: "initialize",
        params: {
          protocolVersion: "2025-11-25",
          capabilities: {},
          clientInfo: { name: "neighbour", version: "1" },
        },
      }),
    });

  it("a neighbour on the bridge's machine gets no answer without the gateway's token", async () => {
    expect((await initialize({})).status).toBe(401);
    expect((await initialize({ authorization: `Bearer ${token()}x` })).status).toBe(401);
    expect((await initialize({ authorization: `Bearer ${token()}` })).status).toBe(200);
  });

  it("a neighbour finds no secret in the arguments of any process", () => {
    const all = execFileSync("ps", ["-eo", "args="], { encoding: "utf8" }).split("\n");
    expect(all.some((line) => line.includes("bridge.py"))).toBe(true);
    const { oidc, key } = page().secrets;
    const secrets = [token(), oidc, key];
    expect(all.filter((line) => secrets.some((secret) => line.includes(secret)))).toEqual([]);
  });

  it("a server gets its own environment only, not the bridge's", async () => {
    const client = await (await page().client("files")).connect();
    const [pid] = page().processes();
    const environment = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
    const names = environment.map((line) => line.split("=")[0]);
    expect(names).toContain("PATH");
    for (const name of ["OIDC_CLIENT_SECRET", "SEARCH_API_KEY", "MCP_BRIDGE_TOKEN", "MEMORY_FILE_PATH"])
      expect(names).not.toContain(name);
    await client.close();
  });

  it("a user cannot widen what a server serves with the roots of a client", async () => {
    const widening = new Client({ name: "widening", version: "1" }, { capabilities: { roots: {} } });
    let asked = 0;
    widening.setRequestHandler(ListRootsRequestSchema, () => {
      asked++;
      return { roots: [{ uri: "file:///etc", name: "everything" }] };
    });
    const headers = { authorization: `Bearer ${token()}` };
    const to = new URL(page().bridge("everything"));
    await widening.connect(new StreamableHTTPClientTransport(to, { requestInit: { headers } }));
    // Offered only to clients with roots: what the server sees of the bridge.
    const { content } = await widening.callTool({ name: "get-roots-list", arguments: {} });
    expect(JSON.stringify(content)).toContain("get-roots-list not found");
    expect(asked).toBe(0);
    await widening.close();
  });

  it("a user cannot enter another user's session", async () => {
    const [alice, bob] = [await page().client("files"), await page().client("files", "bob")];
    const before = page().processes().length;
    const ofAlice = await alice.connect();
    const ofBob = await bob.connect();
    expect(page().processes().length).toBe(before + 2);
    const list = async (id: string | undefined) => {
      const answer = await fetch(page().url("files"), {
        method: "POST",
        headers: {
          ...json,
          authorization: `Bearer ${bob.tokens()?.access_token}`,
          "mcp-session-id": id ?? "",
          "mcp-protocol-version": "2025-11-25",
        },
        body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list" }),
      });
      return answer.status;
    };
    expect(await list(ofBob.transport?.sessionId)).toBe(200);
    expect(await list(ofAlice.transport?.sessionId)).toBe(404);
  });

  it("a user cannot enter another user's session with a second session id", async () => {
    const identity = (sub: string) => `x.${Buffer.from(JSON.stringify({ sub })).toString("base64url")}.x`;
    const of = (sub: string) => ({
      authorization: `Bearer ${token()}`,
      "x-pomerium-jwt-assertion": identity(sub),
    });
    const begin = async (sub: string) => (await initialize(of(sub))).headers.get("mcp-session-id") ?? "";
    const [theirs, mine] = [await begin("victim"), await begin("intruder")];
    const status = (sessions: string[]) =>
      new Promise((resolve, reject) => {
        // Sends each value as a header of its own, unlike fetch.
        const headers = { ...json, ...of("intruder"), "mcp-session-id": sessions };
        const sent = request(page().bridge("time"), { method: "POST", headers }, (answer) => {
          answer.resume();
          resolve(answer.statusCode);
        });
        sent.on("error", reject).end(JSON.stringify({ jsonrpc: "2.0", id: 2, method: "ping" }));
      });
    expect(await status([mine])).toBe(200);
    expect(await status([theirs])).toBe(404);
    for (const sessions of [
      [theirs, mine],
      [mine, theirs],
      [theirs, ""],
    ])
      expect(await status(sessions)).toBe(400);
  });

  it("a user cannot take all processes of a server: the session that was unused longest ends for a new one", async () => {
    const assertion = (sub: string) => `x.${Buffer.from(JSON.stringify({ sub })).toString("base64url")}.x`;
    const of = (sub: string) => ({
      authorization: `Bearer ${token()}`,
      "x-pomerium-jwt-assertion": assertion(sub),
    });
    const begin = async (sub: string) => {
      const answer = await initialize(of(sub));
      expect(await answer.text()).toContain('"serverInfo"');
      return answer.headers.get("mcp-session-id") ?? "";
    };
    const ping = async (session: string) => {
      const answer = await fetch(page().bridge("time"), {
        method: "POST",
        headers: { ...json, ...of("greedy"), "mcp-session-id": session },
        body: JSON.stringify({ jsonrpc: "2.0", id: 2, method: "ping" }),
      });
      await answer.text();
      return answer.status;
    };
    const sessions: string[] = [];
    for (let count = 0; count < 16; count++) sessions.push(await begin("greedy"));
    const [first = "", second = ""] = sessions;
    expect(await ping(first)).toBe(200);
    const last = await begin("greedy");
    expect(await Promise.all([first, second, last].map(ping))).toEqual([200, 404, 200]);
    await begin("other");
    // At once, too: each makes room for itself.
    for (let round = 0; round < 2; round++)
      sessions.push(...(await Promise.all(Array.from({ length: 8 }, () => begin("greedy")))));
    const alive = (await Promise.all(sessions.map(ping))).filter((status) => status === 200);
    expect(alive.length).toBeLessThanOrEqual(16);
    await begin("other");
  });

  it("a process that starts for a client that has disconnected ends, and keeps no other user out", async () => {
    const person = Buffer.from(JSON.stringify({ sub: "impatient" })).toString("base64url");
    const headers = { authorization: `Bearer ${token()}`, "x-pomerium-jwt-assertion": `x.${person}.x` };
    // More than one user may have: each has ended before the next begins.
    for (let count = 0; count < 20; count++) {
      const gone = new AbortController();
      const begun = await initialize(headers, gone.signal);
      expect(begun.headers.get("mcp-session-id")).not.toBeNull();
      gone.abort();
    }
    const began = async () => (await initialize(headers)).text();
    await expect.poll(began, { timeout: 60_000 }).toContain('"serverInfo"');
  });

  it("clients of revisions without sessions are told which ones the bridge speaks", async () => {
    const headers = { authorization: `Bearer ${token()}`, "mcp-protocol-version": "2026-07-28" };
    const answer = await initialize(headers);
    const body = await answer.text();
    expect([answer.status, body]).toEqual([400, expect.stringContaining("Unsupported protocol version")]);
  });
}
