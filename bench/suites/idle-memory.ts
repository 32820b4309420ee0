import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { freePort } from "../../dev/demo/free-port.ts";
import { build, entryPoint } from "../../dev/release/build.ts";
import { percentile } from "../load/percentile.ts";
import { figure } from "../report/figure.ts";
import type { Line } from "../report/report.ts";
import type { Target } from "../report/target.ts";
import { processesOf, residentMiB } from "../world/resident.ts";
import { startSidecar } from "../world/start-sidecar.ts";
import type { Suite } from "./suite.ts";

/** After this, what the start has needed has been given back, ms. */
const settlesWithinMs = 20_000;
const samples = 10;
const sampleEveryMs = 500;
/** Wanted at most, MiB. */
const limits = { postgres: 100, embedded: 250 };

/** Memory of the installed program without any calls, of all its processes. */
export const idleMemory: Suite = async ({ world, upstream, progress }) => {
  progress("idle memory: the program as it is installed");
  await build();
  const { DATABASE_URL: _url, DATABASE_LISTEN_URL: _listenUrl, ...withoutPostgres } = world.env;
  const cases = [
    { name: "Postgres, one worker", env: world.env, limit: limits.postgres },
    { name: "embedded database, first start", env: withoutPostgres, limit: limits.embedded },
    { name: "embedded database, later start", env: withoutPostgres, limit: limits.embedded },
    { name: "Postgres, two workers", env: world.env, workers: 2 },
  ];
  const lines: Line[] = [];
  const targets: Target[] = [];
  for (const { name, env, limit, workers } of cases) {
    progress(`idle memory: ${name}`);
    const file = await world.routesFile("idle-memory", {
      routes: 10,
      upstream,
      tokenEndpoint: `${upstream}/token`,
      listen: await listenersApart(workers ?? 1),
      more: { database: { dir: join(world.folder, "idle-memory") }, ...(workers && { workers }) },
    });
    const sidecar = await startSidecar({
      world: { folder: world.folder, env },
      file,
      core: undefined,
      program: entryPoint,
    });
    await delay(settlesWithinMs);
    const seen: number[][] = [];
    for (let count = 0; count < samples; count++, await delay(sampleEveryMs))
      seen.push(processesOf(sidecar.pid).map(residentMiB));
    await sidecar.stop();
    const median = (of: (resident: readonly number[]) => number) => Math.round(percentile(seen.map(of), 0.5));
    const total = median((resident) => resident.reduce((sum, one) => sum + one, 0));
    const processes = seen[0]?.length ?? 0;
    lines.push({
      name,
      figures: {
        processes,
        "resident MiB": total,
        "largest process MiB": median((resident) => Math.max(...resident)),
      },
    });
    if (limit !== undefined)
      targets.push({
        name: `Idle memory: ${name}`,
        wanted: { atMost: limit },
        unit: " MiB",
        measured: figure([total]),
      });
  }
  const note = `Resident memory of the built program with ten routes, ${settlesWithinMs / 1000} s after its start, without calls: median of ${samples} samples, all processes together. Pages that processes share count for each.`;
  return { tables: [{ title: "Idle memory", note, lines }], targets };
};

/** Each worker listens at the next port after its sibling's. */
async function listenersApart(workers: number): Promise<{ grpc: string; http: string; admin: string }> {
  const ports: number[] = [];
  while (ports.length < 3 * workers) {
    const port = await freePort();
    if (ports.length % workers !== 0 && port !== (ports.at(-1) ?? 0) + 1) ports.length = 0;
    ports.push(port);
  }
  const [grpc, http, admin] = [0, 1, 2].map((listener) => `127.0.0.1:${ports[listener * workers]}`);
  if (!grpc || !http || !admin) throw new Error("no free ports");
  return { grpc, http, admin };
}
