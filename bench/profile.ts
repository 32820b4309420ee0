import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cpuClock } from "./load/cpu-clock.ts";
import { grpcConnection } from "./load/grpc-connection.ts";
import { closedLoop } from "./load/load.ts";
import { type CpuProfile, flameGraph } from "./report/flame-graph.ts";
import { checkCall, prepareCheck } from "./world/check-call.ts";
import { checkPath } from "./world/check-message.ts";
import { pinnedCores } from "./world/cores.ts";
import { startSidecar } from "./world/start-sidecar.ts";
import { startWorld } from "./world/world.ts";

/*
 * Profiles a sidecar under warm checks, 64 at a time, and draws it: `node bench/profile.ts FILE.svg`. Of the profile only what
 * happens after the warm-up is kept.
 */
const [file = "flame-graph.svg"] = process.argv.slice(2);
const upstream = "http://127.0.0.1:1";
const cores = pinnedCores();
const world = await startWorld(upstream);
const tokenEndpoint = `${upstream}/token`;
const made = await world.connections(100, { routes: 10, tokenEndpoint });
const checks = made.map(prepareCheck);
const routes = await world.routesFile("profile", {
  routes: 10,
  upstream,
  tokenEndpoint,
  listen: { grpc: "127.0.0.1:0", http: "127.0.0.1:0", admin: "127.0.0.1:0" },
});
const sidecar = await startSidecar({
  world,
  file: routes,
  core: cores.measured,
  nodeFlags: ["--cpu-prof", "--cpu-prof-interval", "200", "--cpu-prof-dir", world.folder],
});
const open = await grpcConnection(sidecar.grpc, checkPath);
let turn = 0;
const call = checkCall([open], () => {
  const next = checks[turn++ % checks.length];
  if (!next) throw new Error("no connection");
  return next;
});
const measure = (ms: number) => closedLoop({ call, ms, cpu: cpuClock(sidecar.pid), concurrency: 64 });
await measure(4000);
const measured = await measure(8000);
open.close();
await sidecar.stop();
// `serve` restarts itself with its own flags: the first profile is of the time before.
const profileFile = readdirSync(world.folder)
  .filter((name) => name.endsWith(".cpuprofile"))
  .toSorted()
  .at(-1);
const profile = JSON.parse(readFileSync(join(world.folder, profileFile ?? ""), "utf8")) as CpuProfile & {
  endTime: number;
};
await world.close();
writeFileSync(
  file,
  flameGraph(
    lastOf(profile, 7_000_000),
    `Warm checks, ${Math.round(measured.perSecond).toLocaleString("en")} a second (profiled): orange ours, blue Node's, grey libraries', pink the engine's`,
  ),
);
console.log(`${file}: ${measured.cpuMicros.toFixed(1)} µs of CPU per check`);

/** The last `micros` of the load: what comes after it is idle. */
function lastOf(whole: CpuProfile, micros: number): CpuProfile {
  const idle = whole.nodes.find(({ callFrame }) => callFrame.functionName === "(idle)")?.id;
  let end = whole.samples.length;
  while (end > 0 && whole.samples[end - 1] === idle) end--;
  let start = end;
  for (let left = micros; start > 0 && left > 0; start--) left -= whole.timeDeltas[start - 1] ?? 0;
  return {
    ...whole,
    samples: whole.samples.slice(start, end),
    timeDeltas: whole.timeDeltas.slice(start, end),
  };
}
