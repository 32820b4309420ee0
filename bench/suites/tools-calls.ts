import { cpuClock } from "../load/cpu-clock.ts";
import { type HttpCalls, type HttpRequest, httpCalls } from "../load/http-call.ts";
import { interleaved } from "../load/interleaved.ts";
import { closedLoop, openLoop, type Round } from "../load/load.ts";
import { difference, type Line, roundsLine } from "../report/report.ts";
import type { Target } from "../report/target.ts";
import { everyCore } from "../world/cores.ts";
import { startEnvoy } from "../world/start-envoy.ts";
import { startSidecar } from "../world/start-sidecar.ts";
import type { Suite } from "./suite.ts";

const roundMs = 1500;
/** At a fixed rate: long enough for a hundredth of the calls to be many. */
const steadyMs = 4000;
const rates = [500, 1000];
const connections = 64;
const kinds = ["mcp", "request path only", "alone", "direct"] as const;
type Kind = (typeof kinds)[number];
const names: Record<Kind, string> = {
  mcp: "Envoy and sidecar",
  "request path only": "the same without the response path",
  alone: "Envoy without any filter",
  direct: "the upstream directly",
};

/** A whole `tools/call` from client to upstream and back. */
export const toolsCalls: Suite = async ({ world, cores, upstream, rounds, progress }) => {
  const tokenEndpoint = `${upstream}/token`;
  const file = await world.routesFile("tools-calls", {
    routes: 1,
    upstream,
    tokenEndpoint,
    listen: {
      grpc: `unix:${world.folder}/tools-calls.sock`,
      http: "127.0.0.1:0",
      admin: "127.0.0.1:0",
    },
  });
  const [connection] = await world.connections(1, { routes: 1, tokenEndpoint });
  if (!connection) throw new Error("no connection");
  const pinAgain = everyCore(cores);
  const sidecar = await startSidecar({ world, file, core: undefined });
  const envoy = await startEnvoy(world, file);
  const tls = { ca: world.ca.ca, servername: "mcp.test" };
  const request = toolsCall(connection.externalToken);
  const lines: Record<Kind, HttpCalls> = {
    mcp: await httpCalls({ port: envoy.ports.mcp ?? 0, ...tls }, request, connections),
    "request path only": await httpCalls(
      { port: envoy.ports["request path only"] ?? 0, ...tls },
      request,
      connections,
    ),
    alone: await httpCalls({ port: envoy.ports.alone ?? 0, ...tls }, request, connections),
    direct: await httpCalls({ port: Number(new URL(upstream).port) }, request, connections),
  };
  const cpu = cpuClock(sidecar.pid);
  const saturating = (kind: Kind, ms = roundMs): Promise<Round> =>
    closedLoop({ call: lines[kind].call, ms, cpu, concurrency: 32 });
  const steady = (kind: Kind, perSecond: number): Promise<Round> =>
    openLoop({ call: lines[kind].call, ms: steadyMs, cpu, perSecond });
  try {
    for (const kind of kinds) await saturating(kind, 2000);
    progress("tools/call, as many as go through");
    const most = await interleaved(Math.min(rounds, 3), {
      mcp: () => saturating("mcp"),
      alone: () => saturating("alone"),
      direct: () => saturating("direct"),
    });
    const table: Line[] = (["mcp", "alone", "direct"] as const).map((kind) =>
      roundsLine(`32 at a time: ${names[kind]}`, most[kind], most.alone),
    );
    const targets: Target[] = [];
    for (const rate of rates) {
      progress(`tools/call, ${rate} a second`);
      const measured = await interleaved(rounds, {
        mcp: () => steady("mcp", rate),
        alone: () => steady("alone", rate),
      });
      const others = await interleaved(Math.min(rounds, 3), {
        "request path only": () => steady("request path only", rate),
        direct: () => steady("direct", rate),
      });
      const all = { ...measured, ...others };
      table.push(...kinds.map((kind) => roundsLine(`${rate}/s: ${names[kind]}`, all[kind])));
      targets.push(...added(measured, rate));
    }
    return {
      tables: [
        {
          title: "tools/call through Envoy",
          note: `A POST of a \`tools/call\` and its JSON response over TLS, ${connections} connections, Envoy with one worker; nothing is pinned to a core. At a fixed rate, a call is timed from when it was due, and a round takes ${steadyMs / 1000} s. \`CPU µs/call\` is the sidecar's.`,
          lines: table,
        },
      ],
      targets,
    };
  } finally {
    for (const kind of kinds) lines[kind].close();
    await envoy.stop();
    await sidecar.stop();
    pinAgain();
  }
};

function added({ mcp, alone }: Record<"mcp" | "alone", Round[]>, rate: number): Target[] {
  const of = (key: "p50" | "p99", atMost: number): Target => ({
    name: `\`tools/call\`, ${rate.toLocaleString("en")} a second: ${key} added to Envoy without a filter`,
    wanted: { atMost, everyRound: true },
    unit: " ms",
    measured: difference(mcp, alone, key),
  });
  return [of("p50", 0.5), of("p99", 3)];
}

export function toolsCall(externalToken: string): HttpRequest {
  const body = JSON.stringify({
    jsonrpc: "2.0",
    id: 17,
    method: "tools/call",
    params: { name: "search_repositories", arguments: { query: "envoy language:typescript", limit: 10 } },
  });
  const head = [
    "POST / HTTP/1.1",
    "host: mcp.test",
    "user-agent: claude-code/2.3.1 (external, cli) node/24.1.0",
    "accept: application/json, text/event-stream",
    "accept-encoding: gzip, deflate, br, zstd",
    "accept-language: en-US,en;q=0.9",
    "content-type: application/json",
    `content-length: ${body.length}`,
    `authorization: Bearer ${externalToken}`,
    "mcp-protocol-version: 2026-07-28",
    "mcp-session-id: 0b6f6a52-6a5c-4f0e-9c66-1f6a4b7d2c11",
    "mcp-method: tools/call",
    "mcp-name: search_repositories",
    "sec-fetch-mode: cors",
    "cache-control: no-cache",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
  ];
  return {
    bytes: Buffer.from(`${head.join("\r\n")}\r\n\r\n${body}`),
    isRight: (answer, text) =>
      answer.startsWith("HTTP/1.1 200 ") && text.includes('"id":17,"result":{"content"'),
  };
}
