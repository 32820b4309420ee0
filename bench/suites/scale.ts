import { cpuClock } from "../load/cpu-clock.ts";
import { type GrpcConnection, grpcConnection } from "../load/grpc-connection.ts";
import { interleaved } from "../load/interleaved.ts";
import { closedLoop, type Round } from "../load/load.ts";
import { figure } from "../report/figure.ts";
import { type Line, ratio, roundsLine } from "../report/report.ts";
import type { Target } from "../report/target.ts";
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
/** If a machine is too slow for all of them (400 s of first checks at 250 a second), there are fewer, so that the run ends. Milliseconds. */
const seedingMs = 180_000;
const warmUpMs = 480_000;
/** Room for all of them: the defaults hold some 17,000 external tokens and 20,000 connections. */
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
  const subjects: { subject: Subject; known: number; memory: { heap: number; resident: number } }[] = [];
  try {
    for (const wanted of connectionCounts) {
      progress(`scale: first checks of ${wanted.toLocaleString("en")} connections`);
      const subject = await start(deps, `connections-${wanted}`, 10, checks.slice(0, wanted));
      onAllCores(true, subject.sidecar);
      const known = await warmUp(subject);
      onAllCores(false, subject.sidecar);
      const warm = { ...subject, checks: subject.checks.slice(0, known) };
      subjects.push({ subject: warm, known, memory: await heapUsed(subject.sidecar.log()) });
      await run(warm, 2500);
    }
    onAllCores(false);
    progress("scale: warm checks by connections");
    const missesBefore = await Promise.all(subjects.map(({ subject }) => missesOf(subject.sidecar)));
    const known = Math.max(...subjects.map((one) => one.known));
    const judge = (measured: Record<string, Round[]>) => [
      flat(
        "connections",
        known,
        1.25,
        connectionCounts.map((count) => measured[count] ?? []),
      ),
    ];
    const measured = await interleaved(
      rounds,
      Object.fromEntries(
        connectionCounts.map((count, index) => [count, () => runOf(subjects[index]?.subject)]),
      ),
      judge,
    );
    const [fewest] = subjects;
    const perConnection = subjects.map(({ known: count, memory }) =>
      Math.round((memory.heap - (fewest?.memory.heap ?? 0)) / (count - (fewest?.known ?? 0))),
    );
    const lines: Line[] = [];
    for (const [index, { subject, known: count, memory }] of subjects.entries()) {
      const of = measured[connectionCounts[index] ?? 0] ?? [];
      const line = roundsLine(
        `${count.toLocaleString("en")} connections`,
        of,
        measured[connectionCounts[0] ?? 0],
      );
      lines.push({
        name: line.name,
        figures: {
          ...line.figures,
          "cache misses": (await missesOf(subject.sidecar)) - (missesBefore[index] ?? 0),
          "resident MiB": Math.round(memory.resident / 2 ** 20),
          "heap bytes/connection": index === 0 ? "–" : (perConnection[index] ?? Number.NaN),
        },
      });
    }
    const memory: Target = {
      name: "Memory of a warm connection",
      wanted: { atMost: 4096 },
      unit: " bytes",
      measured: figure(perConnection.slice(-1)),
    };
    return { table: scaleTable("connections", lines), targets: [...judge(measured), memory] };
  } finally {
    for (const { subject } of subjects) await stop(subject);
  }
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
    const inOrder = (rounds: Record<string, Round[]>) => routeCounts.map((count) => rounds[count] ?? []);
    const judge = (rounds: Record<string, Round[]>) => [
      flat("routes", Math.max(...routeCounts), 1.15, inOrder(rounds)),
    ];
    const measured = await interleaved(
      rounds,
      Object.fromEntries(routeCounts.map((count) => [count, () => runOf(subjects[count])])),
      judge,
    );
    const all = inOrder(measured);
    for (const [index, count] of routeCounts.entries()) {
      const line = roundsLine(`${count.toLocaleString("en")} routes`, all[index] ?? [], all[0]);
      const ready = Math.round(subjects[count]?.sidecar.readyMs ?? 0);
      lines.push({ name: line.name, figures: { ...line.figures, "start-up ms": ready } });
    }
    return { table: scaleTable("routes", lines), targets: judge(measured) };
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
    const gains = ({ alone, together }: Record<"alone" | "together", number[]>) =>
      figure(together.map((sum, index) => sum / (alone[index] ?? Number.NaN)));
    const judge = (rounds: Record<"alone" | "together", number[]>): Target[] => [
      {
        name: "Two processes against one, by CPU time (see the table: two cores only)",
        wanted: { atLeast: 1.8 },
        measured: gains(rounds),
      },
    ];
    const measured = await interleaved(
      rounds,
      {
        alone: async () => capacity(await run(one)),
        together: async () => {
          const both = await Promise.all([run(one), run(two)]);
          return both.reduce((sum, round) => sum + capacity(round), 0);
        },
      },
      judge,
    );
    return {
      table: {
        title: "Scale: processes",
        note: "This machine has two cores, and the load generator needs part of one: two processes cannot have a core each. The figure is therefore the CPU time per check while both processes serve at the same time: `checks per CPU second` adds up what each would do with a whole core. It stays below twice the figure of one process only if the processes obstruct each other (locks, the database, the heartbeat).",
        lines: [
          { name: "one process", figures: { "checks per CPU second": figure(measured.alone), ratio: 1 } },
          {
            name: "two at once",
            figures: { "checks per CPU second": figure(measured.together), ratio: gains(measured) },
          },
        ],
      },
      targets: judge(measured),
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
function runOf(subject: Subject | undefined): Promise<Round> {
  return run(subject ?? lacking());
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

/** The cost of a check with the most of something, relative to its cost with the fewest. */
function flat(what: string, most: number, atMost: number, measured: readonly Round[][]): Target {
  return {
    name: `CPU time of a check with ${most.toLocaleString("en")} ${what} against 10, all warm`,
    wanted: { atMost },
    measured: ratio(measured.at(-1) ?? [], measured[0] ?? [], "cpuMicros"),
  };
}
