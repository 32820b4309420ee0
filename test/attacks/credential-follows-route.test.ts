import { once } from "node:events";
import { rename, writeFile } from "node:fs/promises";
import { createServer, type Server, type ServerResponse } from "node:http";
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from "node:http2";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { stringify } from "yaml";
import type { StackConfig } from "../../dev/demo/stack-config.ts";
import { type E2e, startE2e } from "../support/e2e.ts";

/** An upstream that records the keys it is called with. */
interface Upstream {
  readonly url: string;
  readonly seen: Map<string, number>;
  /** Notifies waiting tests of a call. */
  say(text: string): void;
  close(): void;
}

const from = "https://swap.test";
const ping = { jsonrpc: "2.0", id: 1, method: "ping" };
const forbidden = { jsonrpc: "2.0", id: 2, method: "tools/call", params: { name: "rm", arguments: {} } };

/** One call on a persistent HTTP/2 session. */
function overSession(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  body?: string,
): ClientHttp2Stream {
  const stream = session.request({
    ":method": body === undefined ? "GET" : "POST",
    ":path": "/",
    ":authority": "swap.test",
    "content-type": "application/json",
    ...headers,
  });
  stream.end(body);
  return stream;
}

describe("A route that changes during calls, through Envoy", () => {
  let stack: E2e;
  let config: StackConfig;
  let upstreams: Record<"a" | "b", Upstream>;
  let token: string;
  const ends: (() => void)[] = [];
  /** Number of responses by kind. */
  const answers = new Map<string, number>();
  const surprises = () => [...answers].filter(([kind]) => kind !== "200" && kind !== "503 with Retry-After");

  beforeAll(async () => {
    upstreams = { a: await upstream(), b: await upstream() };
    stack = await startE2e({
      xds: true,
      names: ["swap.test"],
      config: (given) => {
        config = given;
        const open = given.routes.find(({ id }) => id === "open");
        given.routes.push({ id: "swap", from, to: open?.to, mcp: { server: { upstream_auth: "none" } } });
        return given;
      },
    });
    token = await stack.externalToken("alice", from);
    await leadTo("a");
    await vi.waitUntil(async () => (await call()).body === '{"jsonrpc":"2.0","id":1,"result":{}}', {
      timeout: 60_000,
      interval: 50,
    });
  });
  afterAll(async () => {
    for (const end of ends) end();
    await stack?.close();
    for (const one of Object.values(upstreams ?? {})) one.close();
  });

  /** The route to an upstream with its key, written atomically, like an operator's tool would. */
  async function leadTo(name: "a" | "b", more: Record<string, unknown> = {}): Promise<void> {
    const api_key = { header: "x-api-key", value: `key-of-${name}` };
    const entry = {
      id: "swap",
      from,
      to: `${upstreams[name].url}/mcp`,
      mcp: { server: { upstream_auth: { api_key } } },
    };
    const routes = config.routes.map((route) => (route.id === "swap" ? { ...entry, ...more } : route));
    await writeFile(`${stack.configFile}.new`, stringify({ ...config, routes }), { mode: 0o600 });
    await rename(`${stack.configFile}.new`, stack.configFile);
  }
  async function call(message: object = ping): Promise<{ status: number; body: string }> {
    const response = await stack.fetch(`${from}/`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify(message),
    });
    const body = await response.text();
    const retry = response.headers.has("retry-after") ? " with Retry-After" : "";
    const kind = response.ok ? "200" : `${response.status}${retry}`;
    answers.set(kind, (answers.get(kind) ?? 0) + 1);
    return { status: response.status, body };
  }
  function underLoad(): { end(): Promise<unknown> } {
    let stop = false;
    answers.clear();
    const work = async () => {
      while (!stop) await call().catch(broken);
    };
    const workers = Array.from({ length: 8 }, work);
    const end = () => {
      stop = true;
      return Promise.all(workers);
    };
    ends.push(() => void end());
    return { end };
  }
  function broken(): Promise<unknown> {
    answers.set("broken off", (answers.get("broken off") ?? 0) + 1);
    return delay(10);
  }
  /** Resolves after `more` further calls at an upstream. */
  async function arrive(at: Upstream, more: number): Promise<void> {
    const total = () => [...at.seen.values()].reduce((sum, count) => sum + count, 0);
    const wanted = total() + more;
    await expect.poll(total, { timeout: 90_000, interval: 20 }).toBeGreaterThanOrEqual(wanted);
  }

  it("never sends one upstream's credential to another while `to` and its key change under load", async () => {
    const load = underLoad();
    await arrive(upstreams.a, 50);
    for (const name of ["b", "a", "b", "a"] as const) {
      await leadTo(name);
      await arrive(upstreams[name], 50);
    }
    await load.end();
    expect([...upstreams.a.seen.keys()]).toEqual(["key-of-a"]);
    expect([...upstreams.b.seen.keys()]).toEqual(["key-of-b"]);
    expect(surprises()).toEqual([]);
  });

  it("keeps connections, sessions and streams open when routes change: Envoy keeps its listener", async () => {
    const authorization = `Bearer ${token}`;
    const session = connectHttp2(from, {
      createConnection: () =>
        connectTls({
          host: "127.0.0.1",
          port: stack.envoyPort,
          servername: "swap.test",
          ca: stack.ca.ca,
          ALPNProtocols: ["h2"],
        }),
    });
    const faults: string[] = [];
    session
      .on("goaway", (code) => faults.push(`goaway ${code}`))
      .on("error", (error) => faults.push(error.message));
    const events = overSession(session, { authorization, accept: "text/event-stream" });
    events
      .on("error", (error) => faults.push(error.message))
      .on("end", () => faults.push("the stream ended"));
    let heard = "";
    events.setEncoding("utf8").on("data", (text: string) => {
      heard += text;
    });
    await expect.poll(() => heard, { timeout: 60_000 }).toContain("opened");
    let stop = false;
    const calls = async () => {
      while (!stop && faults.length === 0) {
        const stream = overSession(session, { authorization }, JSON.stringify(ping));
        await once(stream.resume(), "end").catch((error: Error) => faults.push(error.message));
      }
    };
    const workers = Array.from({ length: 4 }, calls);
    for (const [name, more] of [
      ["b", {}],
      ["a", {}],
      ["b", {}],
      // Another change of the upstream: the stream's cluster is no longer in any configuration.
      ["b", { preserve_host_header: true }],
      ["a", { tools: { deny: ["rm"] } }],
      ["a", {}],
    ] as const) {
      if (faults.length > 0) break;
      await leadTo(name, more);
      const before = upstreams[name].seen.get(`key-of-${name}`) ?? 0;
      const arrived = () =>
        (upstreams[name].seen.get(`key-of-${name}`) ?? 0) >= before + 30 || faults.length > 0;
      await expect.poll(arrived, { timeout: 90_000, interval: 20 }).toBe(true);
    }
    stop = true;
    await Promise.all(workers);
    expect(faults).toEqual([]);
    upstreams.a.say("still here");
    await expect.poll(() => heard, { timeout: 60_000 }).toContain("still here");
    expect(faults).toEqual([]);
    session.destroy();
  });

  it("asks for a retry, without breaking a request, while a tool policy is enabled under load", async () => {
    const load = underLoad();
    await arrive(upstreams.a, 50);
    await leadTo("a", { tools: { deny: ["rm"] } });
    await expect
      .poll(async () => (await call(forbidden)).body, { timeout: 90_000 })
      .toContain("is not allowed for you here");
    await arrive(upstreams.a, 50);
    await load.end();
    expect(surprises()).toEqual([]);
  });
});

async function upstream(): Promise<Upstream> {
  const seen = new Map<string, number>();
  const listening: ServerResponse[] = [];
  const server: Server = createServer((request, response) => {
    const key = String(request.headers["x-api-key"]);
    seen.set(key, (seen.get(key) ?? 0) + 1);
    request.resume();
    if (request.method === "GET") {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: opened\n\n");
      listening.push(response);
      return;
    }
    request.once("end", () => {
      response.writeHead(200, { "content-type": "application/json" });
      response.end('{"jsonrpc":"2.0","id":1,"result":{}}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    seen,
    say(text) {
      for (const response of listening) response.write(`data: ${text}\n\n`);
    },
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}
