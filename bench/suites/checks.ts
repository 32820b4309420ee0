import { join } from "node:path";
import { cpuClock } from "../load/cpu-clock.ts";
import { type GrpcConnection, grpcConnection } from "../load/grpc-connection.ts";
import { interleaved } from "../load/interleaved.ts";
import { closedLoop, type Round } from "../load/load.ts";
import { type Line, ratio, roundsLine } from "../report/report.ts";
import type { Target } from "../report/target.ts";
import { checkCall, type PreparedCheck, prepareCheck } from "../world/check-call.ts";
import { checkMessage, checkPath, letsThrough } from "../world/check-message.ts";
import { type Process, startProcess } from "../world/start-process.ts";
import { startSidecar } from "../world/start-sidecar.ts";
import type { Suite } from "./suite.ts";

const servers = join(import.meta.dirname, "../servers");
const roundMs = 500;
const warmUpMs = 2500;
const kinds = ["ours", "noop", "bare"] as const;
type Kind = (typeof kinds)[number];
const names: Record<Kind, string> = {
  ours: "the sidecar, warm",
  noop: "no-op grpc-js server",
  bare: "bare node:http2 server, nothing decoded",
};

/** Our `Check`, warm, beside a server that does nothing and one that does not even speak gRPC. */
export const checks: Suite = async ({ world, cores, upstream, rounds, progress }) => {
  const tokenEndpoint = `${upstream}/token`;
  const [connection] = await world.connections(1, { routes: 1, tokenEndpoint });
  if (!connection) throw new Error("no connection");
  const message = checkMessage(connection);
  const mine = prepareCheck(connection);
  const sample: PreparedCheck = { message, upstreamToken: Buffer.from(`Bearer ${"t".repeat(800)}`) };
  const lines: Line[] = [];
  const targets: Target[] = [];

  for (const transport of ["TCP", "Unix socket"] as const) {
    const address = (name: string) =>
      transport === "TCP" ? "127.0.0.1:0" : `unix:${join(world.folder, `${name}.sock`)}`;
    const file = await world.routesFile(`checks-${transport === "TCP" ? "tcp" : "unix"}`, {
      routes: 1,
      upstream,
      tokenEndpoint,
      listen: { grpc: address("ours"), http: "127.0.0.1:0", admin: "127.0.0.1:0" },
    });
    const start = (name: string) =>
      startProcess({
        name,
        command: [process.execPath, join(servers, `${name}.ts`), address(name)],
        folder: world.folder,
        core: cores.measured,
        ready: /ready \S+/,
      });
    const [noop, bare] = [await start("noop-grpc"), await start("bare-http2")];
    const ours = await startSidecar({ world, file, core: cores.measured });
    const bound = (server: Process) => /ready (\S+)/.exec(server.log())?.[1] ?? "";
    const subjects = {
      ours: { process: ours, address: ours.grpc, check: mine },
      noop: { process: noop, address: bound(noop), check: sample },
      bare: { process: bare, address: bound(bare), check: sample },
    };
    const connections: Record<Kind, GrpcConnection[]> = { ours: [], noop: [], bare: [] };
    // As many connections as an Envoy of four workers has.
    for (const kind of kinds)
      for (let count = 0; count < 4; count++)
        connections[kind].push(await grpcConnection(subjects[kind].address, checkPath));
    await new Promise<void>((resolve, reject) =>
      connections.ours[0]?.call(message, ({ message: answer }) =>
        answer && letsThrough(answer, connection) ? resolve() : reject(new Error("our check refuses")),
      ),
    );
    const run = (kind: Kind, concurrency: number, ms: number): Promise<Round> =>
      closedLoop({
        call: checkCall(connections[kind], () => subjects[kind].check),
        ms,
        cpu: cpuClock(subjects[kind].process.pid),
        concurrency,
      });
    for (const kind of kinds) await run(kind, 64, warmUpMs);

    for (const concurrency of [1, 16, 64, 256]) {
      progress(`checks over ${transport}, ${concurrency} at a time`);
      const isJudged = transport === "TCP" && concurrency === 64;
      const measured = await interleaved(
        rounds,
        {
          ours: () => run("ours", concurrency, roundMs),
          noop: () => run("noop", concurrency, roundMs),
          bare: () => run("bare", concurrency, roundMs),
        },
        isJudged ? judge : undefined,
      );
      for (const kind of kinds) {
        lines.push(roundsLine(`${transport}, ${concurrency}: ${names[kind]}`, measured[kind], measured.noop));
      }
      if (isJudged) targets.push(...judge(measured));
    }
    for (const kind of kinds) for (const open of connections[kind]) open.close();
    for (const { process } of Object.values(subjects)) await process.stop();
  }
  return {
    tables: [
      {
        title: "Checks",
        note: `A check of ${message.length.toLocaleString("en")} bytes with 25 headers, an ES256 external token and an encrypted upstream token of 800 bytes; four connections, closed loop, rounds of ${roundMs} ms; the server alone on one core. \`ratio\`: throughput relative to the no-op server, round by round.`,
        lines,
      },
    ],
    targets,
  };
};

function judge({ ours, bare }: Record<Kind, Round[]>): Target[] {
  const name = "Warm `Check`, 64 at a time, against the bare HTTP/2 server";
  return [
    { name: `${name}: throughput`, wanted: { atLeast: 0.5 }, measured: ratio(ours, bare, "perSecond") },
    { name: `${name}: p99`, wanted: { atMost: 1.25 }, measured: ratio(ours, bare, "p99") },
  ];
}
