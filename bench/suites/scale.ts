import { cpuClock } from "../load/cpu-clock.ts";
import { type GrpcConnection, grpcConnection } from "../load/grpc-connection.ts";
import { interleaved } from "../load/interleaved.ts";
import { closedLoop, type Round } from "../load/load.ts";
import { figure } from "../report/figure.ts";
import { type Line, ratio, roundsLine, type Target } from "../report/report.ts";
import { checkCall, type PreparedCheck, prepareCheck } from "../world/check-call.ts";
import { checkPath } from "../world/check-message.ts";
import { pin } from "../world/cores.ts";
import { heapUsed } from "../world/heap-used.ts";
import { type RunningSidecar, startSidecar } from "../world/start-sidecar.ts";
import type { Suite, SuiteDeps } from "./suite.ts";

const roundMs = 800;
const concurrency = 64;
const connectionCounts = [10, 1000, 100_000];
const routeCounts = [10, 1000, 10_000];
/** On a machine that is slow or busy there are fewer of them, so that the run stays bounded. Milliseconds. */
const seedingMs = 45_000;
const warmUpMs = 75_000;
/** Room for all of them: the defaults hold some 17,000 TEs and 20,000 connections. */
const limits = { token_cache_bytes: "1024MiB", cache_entries: 200_000 };

/** A sidecar with its connections warm. */
interface Subject {
  readonly sidecar: RunningSidecar;
  readonly checks: readonly PreparedCheck[];
  readonly open: readonly GrpcConnection[];
}

/** Whether a check costs the same however many connections, routes and processes there are. */
export const scale: Suite = async (deps) => {
  const connections = await byConnections(deps);
  const routes = await byRoutes(deps);
  const processes = await byProcesses(deps);
  return {
    tables: [connections.table, routes.table, processes.table],
    targets: [...connections.targets, ...routes.targets, ...processes.targets],
  };
};

async function byConnections(deps: SuiteDeps) {
  const { progress, rounds } = deps;
  const most = Math.max(...connectionCounts);
  progress(`scale: ${most.toLocaleString("en")} connections into the database`);
  const onAllCores = placement(deps);
  onAllCores(true);
  const checks: PreparedCheck[] = [];
  const seeded = performance.now() + seedingMs;
  while (checks.length < most && performance.now() < seeded) {
    const count = Math.min(5000, most - checks.length);
    const made = await deps.world.connections(count, { routes: 10, tokenEndpoint: `${deps.upstream}/token` });
    checks.push(...made.map(prepareCheck));
  }
  // One process, with a growing number of connections.
  const subject = await start(deps, "connections", 10, []);
  onAllCores(false);
  const lines: Line[] = [];
  const measured: Round[][] = [];
  let known = 0;
  let before = { heap: 0, resident: 0 };
  try {
    for (const wanted of connectionCounts) {
      progress(`scale: first checks of ${wanted.toLocaleString("en")} connections`);
      onAllCores(true, subject.sidecar);
      known += await warmUp({ ...subject, checks: checks.slice(known, wanted) });
      onAllCores(false, subject.sidecar);
      const count = known;
      const memory = await heapUsed(subject.sidecar.log());
      const missesBefore = await missesOf(subject.sidecar);
      await run({ ...subject, checks: checks.slice(0, count) }, 1500);
      const some: Round[] = [];
      for (let round = 0; round < rounds; round++)
        some.push(await run({ ...subject, checks: checks.slice(0, count) }));
      measured.push(some);
      const line = roundsLine(`${count.toLocaleString("en")} connections`, some, measured[0]);
      const first = wanted === connectionCounts[0];
      lines.push({
        name: line.name,
        figures: {
          ...line.figures,
          "cache misses": (await missesOf(subject.sidecar)) - missesBefore,
          "resident MiB": Math.round(memory.resident / 2 ** 20),
          "heap bytes/connection": first ? "–" : Math.round((memory.heap - before.heap) / (count - 10)),
        },
      });
      if (first) before = memory;
    }
  } finally {
    await stop(subject);
  }
  return { table: scaleTable("connections", lines), targets: [flat("connections", known, measured)] };
}

async function byRoutes(deps: SuiteDeps) {
  const { progress, rounds } = deps;
  const subjects: Record<string, Subject> = {};
  const lines: Line[] = [];
  try {
    for (const count of routeCounts) {
      progress(`scale: ${count.toLocaleString("en")} routes`);
      const made = await deps.world.connections(100, {
        routes: count,
        tokenEndpoint: `${deps.upstream}/token`,
      });
      const subject = await start(deps, `routes-${count}`, count, made.map(prepareCheck));
      subjects[count] = subject;
      await warmUp(subject);
      await run(subject, 2500);
    }
    const measured = await interleaved(
      rounds,
      Object.fromEntries(routeCounts.map((count) => [count, () => runOf(subjects, count)])),
    );
    const all = routeCounts.map((count) => measured[count] ?? []);
    for (const [index, count] of routeCounts.entries()) {
      const line = roundsLine(`${count.toLocaleString("en")} routes`, all[index] ?? [], all[0]);
      const ready = Math.round(subjects[count]?.sidecar.readyMs ?? 0);
      lines.push({ name: line.name, figures: { ...line.figures, "start-up ms": ready } });
    }
    return { table: scaleTable("routes", lines), targets: [flat("routes", Math.max(...routeCounts), all)] };
  } finally {
    for (const subject of Object.values(subjects)) await stop(subject);
  }
}

async function byProcesses(deps: SuiteDeps) {
  const { progress, rounds, cores } = deps;
  progress("scale: two processes");
  const made = await deps.world.connections(100, { routes: 10, tokenEndpoint: `${deps.upstream}/token` });
  const checks = made.map(prepareCheck);
  const one = await start(deps, "process-one", 10, checks);
  const two = await start({ ...deps, cores: { ...cores, measured: cores.rest } }, "process-two", 10, checks);
  try {
    for (const subject of [one, two]) {
      await warmUp(subject);
      await run(subject, 2500);
    }
    /** Checks a process has time for in a second of a core of its own. */
    const capacity = (round: Round) => 1e6 / round.cpuMicros;
    const measured = await interleaved(rounds, {
      alone: async () => capacity(await run(one)),
      together: async () => {
        const both = await Promise.all([run(one), run(two)]);
        return both.reduce((sum, round) => sum + capacity(round), 0);
      },
    });
    const gain = figure(measured.together.map((sum, index) => sum / (measured.alone[index] ?? Number.NaN)));
    return {
      table: {
        title: "Scale: processes",
        note: "This machine has two cores, and the load generator needs part of one: two processes cannot have a core each. The figure is therefore the CPU time per check while both processes serve at the same time: `checks per CPU second` adds up what each would do with a whole core. It stays below twice the figure of one process only if the processes obstruct each other (locks, the database, the heartbeat).",
        lines: [
          { name: "one process", figures: { "checks per CPU second": figure(measured.alone), ratio: 1 } },
          {
            name: "two at once",
            figures: { "checks per CPU second": figure(measured.together), ratio: gain },
          },
        ],
      },
      targets: [
        {
          name: "Two processes against one, by CPU time (see the table: two cores only)",
          wanted: "≥ 1.8",
          measured: gain.median.toFixed(2),
          met: gain.median >= 1.8,
        },
      ],
    };
  } finally {
    await stop(one);
    await stop(two);
  }
}

async function start(
  { world, cores, upstream }: SuiteDeps,
  name: string,
  routes: number,
  checks: readonly PreparedCheck[],
): Promise<Subject> {
  const file = await world.routesFile(`scale-${name}`, {
    routes,
    upstream,
    tokenEndpoint: `${upstream}/token`,
    listen: { grpc: "127.0.0.1:0", http: "127.0.0.1:0", admin: "127.0.0.1:0" },
    more: { limits, pass_identity_headers: false },
  });
  const nodeFlags = ["--inspect=127.0.0.1:0", "--max-old-space-size=8192"];
  const sidecar = await startSidecar({ world, file, core: cores.measured, nodeFlags });
  const open = [];
  for (let count = 0; count < 4; count++) open.push(await grpcConnection(sidecar.grpc, checkPath));
  return { sidecar, checks, open };
}

async function stop({ sidecar, open }: Subject): Promise<void> {
  for (const one of open) one.close();
  await sidecar.stop();
}

/** Every check once, some at a time, until time is up; how many there were. @throws when one is refused. */
async function warmUp({ checks, open }: Subject): Promise<number> {
  const until = performance.now() + warmUpMs;
  let next = 0;
  let refused = 0;
  const call = checkCall(open, () => checks[next++] ?? lacking());
  const worker = async () => {
    while (next < checks.length && performance.now() < until)
      await new Promise<void>((resolve) =>
        call((ok) => {
          if (!ok) refused++;
          resolve();
        }),
      );
  };
  await Promise.all(Array.from({ length: 32 }, worker));
  if (refused > 0) throw new Error(`${refused} of ${checks.length} first checks were refused`);
  return next;
}

function run({ sidecar, checks, open }: Subject, ms = roundMs): Promise<Round> {
  // A stride that meets them all, and none twice in a row.
  let turn = Math.floor(Math.random() * checks.length);
  const next = () => {
    turn = (turn + 7919) % checks.length;
    return checks[turn] ?? lacking();
  };
  return closedLoop({ call: checkCall(open, next), ms, cpu: cpuClock(sidecar.pid), concurrency });
}
function runOf(subjects: Readonly<Record<string, Subject>>, count: number): Promise<Round> {
  return run(subjects[count] ?? lacking());
}
function lacking(): never {
  throw new Error("there is nothing to measure");
}

/** Filling databases and caches is not what is measured: meanwhile both sides may use every core. */
function placement({ cores }: SuiteDeps): (everywhere: boolean, sidecar?: RunningSidecar) => void {
  const { measured, rest } = cores;
  if (measured === undefined || rest === undefined) return () => {};
  const both = `${measured},${rest}`;
  return (everywhere, sidecar) => {
    pin(process.pid, everywhere ? both : String(rest));
    if (sidecar) pin(sidecar.pid, everywhere ? both : String(measured));
  };
}

async function missesOf({ admin }: RunningSidecar): Promise<number> {
  const text = await (await fetch(`http://${admin}/metrics`)).text();
  const misses = [...text.matchAll(/cache_lookups_total\{[^}]*result="miss"[^}]*\} (\d+)/g)];
  return misses.reduce((sum, [, count]) => sum + Number(count), 0);
}

function scaleTable(what: string, lines: readonly Line[]) {
  return {
    title: `Scale: ${what}`,
    note: `Warm checks over all of them in turn, ${concurrency} at a time on four connections; \`ratio\`: throughput relative to the smallest. Caches are large enough for all (\`limits\` in the routes file); a miss would be a first check again. Without identity assertions, which are signed again every 150 s.`,
    lines,
  };
}

function flat(what: string, most: number, measured: readonly Round[][]): Target {
  const [fewest = [], ...more] = measured;
  const cost = more.map((rounds) => ratio(rounds, fewest, "cpuMicros").median);
  const worst = Math.max(...cost);
  return {
    name: `CPU time of a check from 10 to ${most.toLocaleString("en")} ${what}, all warm`,
    wanted: "within 15%",
    measured: `${((worst - 1) * 100).toFixed(0)}% more`,
    met: worst <= 1.15,
  };
}
