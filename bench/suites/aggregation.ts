import { join } from "node:path";
import { type Dispatcher, Pool } from "undici";
import { freePort } from "../../dev/demo/free-port.ts";
import { cpuClock } from "../load/cpu-clock.ts";
import { type HttpCalls, type HttpRequest, httpCalls } from "../load/http-call.ts";
import { interleaved } from "../load/interleaved.ts";
import { closedLoop, openLoop, type Round } from "../load/load.ts";
import { percentile } from "../load/percentile.ts";
import { figure } from "../report/figure.ts";
import { difference, ratio, roundsLine } from "../report/report.ts";
import type { Target } from "../report/target.ts";
import { everyCore } from "../world/cores.ts";
import { heapUsed } from "../world/heap-used.ts";
import { startEnvoy } from "../world/start-envoy.ts";
import { startProcess } from "../world/start-process.ts";
import { startSidecar } from "../world/start-sidecar.ts";
import type { Suite } from "./suite.ts";

const members = 20;
const toolsEach = 50;
const roundMs = 1500;
const sessionsForMemory = 100;
/** A user may begin 120 within a minute. */
const sessionsEach = 20;
const protocolVersion = "2025-11-25";

/** The same `tools/call` directly at a member's route and through an aggregated route; the merged list; memory per session. */
export const aggregation: Suite = async ({ world, cores, rounds, progress }) => {
  const server = await startProcess({
    name: "sdk-server",
    command: [process.execPath, join(import.meta.dirname, "../servers/sdk-server.ts"), String(toolsEach)],
    folder: world.folder,
    core: undefined,
    ready: /ready \S+/,
  });
  const upstream = /ready (\S+)/.exec(server.log())?.[1] ?? "";
  const routes: { id: string; from: string; to?: string; mcp: object }[] = [
    ...Array.from({ length: members }, (_, index) => ({
      id: `m${index}`,
      from: `https://mcp.test/m${index}`,
      to: `${upstream}/m${index}`,
      mcp: { server: { upstream_auth: "none" } },
    })),
    { id: "all", from: "https://mcp.test/all", mcp: { aggregate: { routes: "all" } } },
  ];
  const file = await world.routesFile("aggregation", {
    routes: 0,
    upstream,
    tokenEndpoint: `${upstream}/token`,
    listen: {
      grpc: `unix:${world.folder}/aggregation.sock`,
      http: `127.0.0.1:${await freePort()}`,
      admin: "127.0.0.1:0",
    },
    more: { routes, aggregation: { listen: `127.0.0.1:${await freePort()}` } },
  });
  const all = routes.slice(0, members).map(({ id, to = "" }) => ({ routeId: id, upstream: to }));
  const people = await world.connections(1 + sessionsForMemory / sessionsEach, {
    ...{ routes: 1, tokenEndpoint: upstream, ownGrants: true },
  });
  const [person, ...others] = people;
  if (!person) throw new Error("no person");
  for (const one of people) await world.store.grantedMembers.allow(one, all, {});
  const direct = await world.externalToken(person, "https://mcp.test/m0");
  const merged = await world.externalToken(person, "https://mcp.test/all");
  const pinAgain = everyCore(cores);
  const sidecar = await startSidecar({ world, file, core: undefined, nodeFlags: ["--inspect=127.0.0.1:0"] });
  const envoy = await startEnvoy(world, file);
  const port = envoy.ports.mcp ?? 0;
  const tls = { ca: world.ca.ca, servername: "mcp.test" };
  const pool = new Pool(`https://127.0.0.1:${port}`, { connections: 64, connect: tls });
  const streams = new Pool(`https://127.0.0.1:${port}`, { connect: tls, bodyTimeout: 0 });
  const lines: HttpCalls[] = [];
  try {
    const at = { direct: client(pool, "/m0", direct), merged: client(pool, "/all", merged) };
    const session = { direct: await at.direct.initialize(), merged: await at.merged.initialize() };
    const open = async (request: HttpRequest) => {
      const opened = await httpCalls({ port, ca: world.ca.ca, servername: "mcp.test" }, request, 64);
      lines.push(opened);
      return opened;
    };
    const calls = {
      direct: await open(toolsCall("/m0", direct, session.direct, "search_7")),
      merged: await open(toolsCall("/all", merged, session.merged, "m0__search_7")),
    };
    const cpu = cpuClock(sidecar.pid);
    const closed = (kind: keyof typeof calls, concurrency: number, ms = roundMs): Promise<Round> =>
      closedLoop({ call: calls[kind].call, ms, cpu, concurrency });
    const steady = (kind: keyof typeof calls): Promise<Round> =>
      openLoop({ call: calls[kind].call, ms: roundMs, cpu, perSecond: 50 });
    for (const kind of ["direct", "merged"] as const) await closed(kind, 8, 2500);
    progress("aggregated tools/call, 50 a second");
    const slow = await interleaved(
      rounds,
      { direct: () => steady("direct"), merged: () => steady("merged") },
      judgeSlow,
    );
    progress("aggregated tools/call, 64 at a time");
    const many = await interleaved(
      rounds,
      { direct: () => closed("direct", 64), merged: () => closed("merged", 64) },
      judgeMany,
    );

    progress(`tools/list of ${members} members`);
    const cold: number[] = [];
    const warm: number[] = [];
    for (let round = 0; round < rounds * 2; round++) {
      const id = await at.merged.initialize();
      cold.push(await at.merged.list(id, members * toolsEach));
      for (let again = 0; again < 5; again++) warm.push(await at.merged.list(id, members * toolsEach));
    }

    progress(`${sessionsForMemory} sessions`);
    const before = await heapUsed(sidecar.log());
    const opened: { readonly session: string; readonly of: ReturnType<typeof client> }[] = [];
    for (const other of others) {
      const of = client(pool, "/all", await world.externalToken(other, "https://mcp.test/all"));
      for (let count = 0; count < sessionsEach; count++) {
        const session = await of.initialize();
        await of.call(session, "m0__search_7");
        opened.push({ session, of });
      }
    }
    const withSessions = await heapUsed(sidecar.log());
    for (const { session, of } of opened) await of.openStream(streams, session);
    const withStreams = await heapUsed(sidecar.log());
    const perSession = (withSessions.heap - before.heap) / sessionsForMemory;
    const perStream = (withStreams.heap - withSessions.heap) / sessionsForMemory;

    const [coldMs, warmMs] = [percentile(cold, 0.5), percentile(warm, 0.5)];
    return {
      tables: [
        {
          title: "One endpoint for many servers",
          note: `A \`tools/call\` of revision ${protocolVersion} to an MCP server on the official SDK, through its own route and through an aggregated route of ${members} members; Envoy with one worker, nothing is pinned. \`CPU µs/call\` is the sidecar's, including both checks.`,
          lines: [
            roundsLine("50/s: the member's route", slow.direct),
            roundsLine("50/s: the aggregated route", slow.merged),
            roundsLine("64 at a time: the member's route", many.direct, many.direct),
            roundsLine("64 at a time: the aggregated route", many.merged, many.direct),
          ],
        },
        {
          title: "The merged list, and sessions",
          note: `\`tools/list\` of ${members} members with ${toolsEach} tools each: in a new session (20 handshakes), and again in the same session. Heap after a garbage collection per open session with one call made, and per stream that such a session keeps open, for which the gateway keeps one open to each member.`,
          lines: [
            { name: "`tools/list`, cold", figures: { "p50 ms": coldMs, "p99 ms": percentile(cold, 0.99) } },
            { name: "`tools/list`, warm", figures: { "p50 ms": warmMs, "p99 ms": percentile(warm, 0.99) } },
            { name: "open session", figures: { KiB: perSession / 1024 } },
            { name: `its stream, and those of ${members} members`, figures: { KiB: perStream / 1024 } },
          ],
        },
      ],
      targets: [
        ...judgeSlow(slow),
        ...judgeMany(many),
        listed("cold", cold, 1000),
        listed("warm", warm, 100),
      ],
    };
  } finally {
    for (const line of lines) line.close();
    await streams.destroy();
    await pool.close();
    await envoy.stop();
    await sidecar.stop();
    await server.stop();
    pinAgain();
  }
};

type Rounds = Record<"direct" | "merged", Round[]>;

function judgeSlow({ merged, direct }: Rounds): Target[] {
  return [
    {
      name: "Aggregated `tools/call` at 50 a second: p50 added to the direct route",
      wanted: { atMost: 3 },
      unit: " ms",
      measured: difference(merged, direct, "p50"),
    },
  ];
}

function judgeMany({ merged, direct }: Rounds): Target[] {
  return [
    {
      name: "Aggregated `tools/call`, 64 at a time: throughput against the direct route",
      wanted: { atLeast: 0.4 },
      measured: ratio(merged, direct, "perSecond"),
    },
  ];
}

function listed(how: string, times: readonly number[], atMost: number): Target {
  const name = `\`tools/list\` of ${members} × ${toolsEach} tools, ${how}`;
  return { name, wanted: { atMost }, unit: " ms", measured: figure(times) };
}

function headersFor(token: string, session: string | undefined): Record<string, string> {
  return {
    host: "mcp.test",
    accept: "application/json, text/event-stream",
    "content-type": "application/json",
    authorization: `Bearer ${token}`,
    "mcp-protocol-version": protocolVersion,
    ...(session === undefined ? {} : { "mcp-session-id": session }),
  };
}

/** A few requests of an MCP client, without the cost of one. */
function client(pool: Dispatcher, path: string, token: string) {
  let id = 0;
  async function ask(method: string, params: object, session?: string) {
    const message = {
      jsonrpc: "2.0",
      method,
      params,
      ...(method.startsWith("notifications/") ? {} : { id: ++id }),
    };
    const response = await pool.request({
      path,
      method: "POST",
      headers: headersFor(token, session),
      body: JSON.stringify(message),
    });
    const text = await response.body.text();
    if (response.statusCode >= 300)
      throw new Error(`${method}: ${response.statusCode} ${text.slice(0, 500)}`);
    return { text, headers: response.headers };
  }
  return {
    async initialize(): Promise<string> {
      const { headers } = await ask("initialize", {
        protocolVersion,
        capabilities: {},
        clientInfo: { name: "bench", version: "1" },
      });
      const session = String(headers["mcp-session-id"]);
      await ask("notifications/initialized", {}, session);
      return session;
    },
    /** Milliseconds until all `count` tools are listed. */
    async list(session: string, count: number): Promise<number> {
      const startedAt = performance.now();
      let listed = 0;
      let cursor: string | undefined;
      do {
        const { text } = await ask("tools/list", cursor === undefined ? {} : { cursor }, session);
        listed += text.split('"inputSchema"').length - 1;
        cursor = /"nextCursor":"([^"]+)"/.exec(text)?.[1];
      } while (cursor !== undefined);
      if (listed !== count) throw new Error(`${listed} of ${count} tools are listed`);
      return performance.now() - startedAt;
    },
    /** Opens the stream of messages that belong to no request, which stays open. */
    async openStream(through: Dispatcher, session: string): Promise<void> {
      const { statusCode } = await through.request({
        path,
        method: "GET",
        headers: headersFor(token, session),
      });
      if (statusCode !== 200) throw new Error(`GET: ${statusCode}`);
    },
    call: (session: string, name: string) =>
      ask("tools/call", { name, arguments: { query: "envoy" } }, session),
  };
}

function toolsCall(path: string, token: string, session: string, name: string): HttpRequest {
  const body = JSON.stringify({
    jsonrpc: "2.0",
    id: 17,
    method: "tools/call",
    params: { name, arguments: { query: "envoy language:typescript", limit: 10 } },
  });
  const head = [
    `POST ${path} HTTP/1.1`,
    ...Object.entries(headersFor(token, session)).map(([header, value]) => `${header}: ${value}`),
    `content-length: ${body.length}`,
  ];
  return {
    bytes: Buffer.from(`${head.join("\r\n")}\r\n\r\n${body}`),
    isRight: (answer, text) => answer.startsWith("HTTP/1.1 200 ") && text.includes('"text":"called"'),
  };
}
