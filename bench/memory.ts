import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { heapFlags } from "../src/workers/heap-shape.ts";
import { grpcConnection } from "./load/grpc-connection.ts";
import { checkCall, type PreparedCheck, prepareCheck } from "./world/check-call.ts";
import { checkPath } from "./world/check-message.ts";
import { residentMiB } from "./world/resident.ts";
import { startProcess } from "./world/start-process.ts";
import { startSidecar } from "./world/start-sidecar.ts";
import { startWorld } from "./world/world.ts";

/*
 * `make memory`: the resident set of one sidecar while it answers a million checks over 200,000 connections, most of which its
 * caches cannot hold. One check in five is of any connection, the others of the 5,000 in daily use. Prints the curve; fails
 * above 400 MiB, or when the last quarter is above the second by more than a tenth.
 *
 *   node bench/memory.ts [--connections 200000] [--checks 1000000]
 */
const { values } = parseArgs({
  options: {
    connections: { type: "string", default: "200000" },
    checks: { type: "string", default: "1000000" },
  },
});
const count = Number(values.connections);
const total = Number(values.checks);
const daily = Math.min(5_000, count);
const limitMiB = 400;
/** Those of `serve` in a container of 512 MiB, the chart's limit. */
const nodeFlags = heapFlags({ memoryBytes: 512 * 1024 ** 2 });
const concurrency = 64;
const samples = 20;

const startedAt = performance.now();
const seconds = () => ((performance.now() - startedAt) / 1000).toFixed(0).padStart(5);
const folder = join(import.meta.dirname, "../.bench");
mkdirSync(folder, { recursive: true });
const upstream = await startProcess({
  name: "upstream",
  command: [process.execPath, join(import.meta.dirname, "servers/upstream.ts")],
  folder,
  core: undefined,
  ready: /ready \S+/,
});
const url = /ready (\S+)/.exec(upstream.log())?.[1] ?? "";
const world = await startWorld(url);
const curve: { readonly checks: number; readonly mib: number }[] = [];
let refused = 0;
try {
  const tokenEndpoint = `${url}/token`;
  const checks: PreparedCheck[] = [];
  // Piece by piece: what is kept here of a connection is only its check.
  for (let made = 0; made < count; made += 10_000) {
    const some = await world.connections(Math.min(10_000, count - made), {
      routes: 10,
      tokenEndpoint,
      expiresIn: 86_400,
    });
    for (const connection of some) checks.push(prepareCheck(connection));
    console.error(`${seconds()} s  ${checks.length} connections stored`);
  }
  const file = await world.routesFile("memory", {
    routes: 10,
    upstream: url,
    tokenEndpoint,
    listen: { grpc: "127.0.0.1:0", http: "127.0.0.1:0", admin: "127.0.0.1:0" },
  });
  const sidecar = await startSidecar({ world, file, core: undefined, nodeFlags });
  const open = await Promise.all([1, 2, 3, 4].map(() => grpcConnection(sidecar.grpc, checkPath)));
  const sample = (done: number) => {
    const mib = Math.round(residentMiB(sidecar.pid));
    if (Number.isNaN(mib)) throw new Error(`the sidecar ended:\n${sidecar.log().slice(-1_500)}`);
    curve.push({ checks: done, mib });
    console.log(`${seconds()} s  ${String(done).padStart(8)} checks  ${curve.at(-1)?.mib} MiB`);
  };
  const call = checkCall(open, () => {
    const range = Math.random() < 0.2 ? count : daily;
    const check = checks[Math.floor(Math.random() * range)];
    if (!check) throw new Error("no connections");
    return check;
  });
  sample(0);
  let begun = 0;
  let done = 0;
  const worker = async () => {
    while (begun++ < total) {
      const ok = await new Promise<boolean>((resolve) => call(resolve));
      if (!ok) refused++;
      if (++done % Math.ceil(total / samples) === 0) sample(done);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  for (const one of open) one.close();
  await sidecar.stop();
} finally {
  await world.close();
  await upstream.stop();
}

const most = Math.max(...curve.map(({ mib }) => mib));
const mean = (from: number, to: number) => {
  const part = curve.slice(Math.floor(curve.length * from), Math.floor(curve.length * to));
  return part.reduce((sum, { mib }) => sum + mib, 0) / part.length;
};
const growth = mean(0.75, 1) / mean(0.25, 0.5) - 1;
console.log(
  `${count} connections, ${total} checks: at most ${most} MiB (wanted: under ${limitMiB}); last quarter against the second: ${(growth * 100).toFixed(1)} % (wanted: under 10 %); ${refused} checks refused`,
);
process.exitCode = most < limitMiB && growth < 0.1 && refused === 0 ? 0 : 1;
