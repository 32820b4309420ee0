import { setTimeout as delay } from "node:timers/promises";
import { configurationFaults } from "./configuration-faults.ts";
import { databaseFaults } from "./database-faults.ts";
import type { Fault, Scene } from "./fault.ts";
import { type Observation, type Outcome, startLoad } from "./load.ts";
import { peopleFaults } from "./people-faults.ts";
import { replicaFaults } from "./replica-faults.ts";
import type { Counts } from "./rotating-authorization-server.ts";
import { stampedeFault, upstreamFaults } from "./upstream-faults.ts";
import { startWorld, type World } from "./world.ts";

/** One line of the table. */
export interface FaultResult {
  readonly name: string;
  readonly seconds: number;
  readonly calls: number;
  readonly outcomes: Readonly<Record<Outcome, number>>;
  /** How often each answer other than the right one came. */
  readonly answers: Readonly<Record<string, number>>;
  /** Connections in the store. */
  readonly before: number;
  readonly after: number;
  /** After it was over: connections that no longer work although nobody took them away, and are not in the gap. */
  readonly lost: number;
  readonly server: Counts;
  readonly note?: string;
}

const all: readonly Fault[] = [
  ...replicaFaults,
  ...databaseFaults,
  ...upstreamFaults,
  ...configurationFaults,
  ...peopleFaults,
  stampedeFault,
];

/**
 * Brings one fault after another upon three replicas under load, and tells of each what came of it.
 * @param options.short fewer people, fewer faults, less time for each: what `make test` has time for
 * @param options.only names (parts of them) of the faults to run
 */
export async function runFaults(options: {
  short: boolean;
  only?: readonly string[];
  progress?: (line: string) => void;
}): Promise<{ readonly results: readonly FaultResult[]; readonly strangeCredentials: number }> {
  const { short, only, progress = () => {} } = options;
  const chosen = all.filter(
    ({ name, short: telling }) => (!short || telling) && (!only || only.some((part) => name.includes(part))),
  );
  const world = await startWorld({
    replicas: 3,
    users: short ? 20 : 50,
    routes: short ? 5 : 10,
    lifeSeconds: short ? 8 : 20,
    progress,
  });
  const load = startLoad({ fetch: world.fetch, calls: () => world.calls, perSecond: short ? 60 : 100 });
  const results: FaultResult[] = [];
  try {
    await delay(short ? 2_000 : 5_000);
    for (const fault of chosen) {
      progress(fault.name);
      results.push(await runOne(fault, world, load.seen, short));
      progress(`  ${JSON.stringify(results.at(-1))}`);
    }
  } finally {
    await load.stop();
    await world.close();
  }
  return { results, strangeCredentials: world.upstream.strangeCredentials() };
}

async function runOne(
  fault: Fault,
  world: World,
  loadSeen: readonly Observation[],
  short: boolean,
): Promise<FaultResult> {
  const from = loadSeen.length;
  const startedAt = Date.now();
  const own: Observation[] = [];
  const serverBefore = world.server.counts();
  const before = await countConnections(world);
  const scene: Scene = Object.assign(Object.create(world), {
    short,
    seen: () => [...loadSeen.slice(from), ...own],
    pause: (ms: number) => delay(short ? ms / 3 : ms),
    async hammer(calls: Parameters<Scene["hammer"]>[0], perSecond: number, ms: number) {
      const one = startLoad({ fetch: world.fetch, calls: () => calls, perSecond });
      await delay(ms);
      await one.stop();
      own.push(...one.seen);
      return one.seen;
    },
  });
  const note = await fault.run(scene);
  world.calls = scene.calls;
  await settled(loadSeen);
  const seen = scene.seen();
  const outcomes: Record<Outcome, number> = { right: 0, allowed: 0, wrong: 0, hung: 0 };
  const answers: Record<string, number> = {};
  for (const { outcome, what } of seen) {
    outcomes[outcome]++;
    if (outcome !== "right") answers[what] = (answers[what] ?? 0) + 1;
  }
  const serverAfter = world.server.counts();
  const present = new Set(world.calls);
  const gone = loadSeen.filter(
    ({ call, what, startedAt: at }) => what.startsWith("401") && at > Date.now() - 3_000 && present.has(call),
  );
  return {
    name: fault.name,
    seconds: (Date.now() - startedAt) / 1000,
    calls: seen.length,
    outcomes,
    answers,
    before: before + (fault.expectedConnections?.(world) ?? 0),
    after: await countConnections(world),
    lost: new Set(gone.map(({ call }) => call.owner)).size,
    server: difference(serverAfter, serverBefore),
    note,
  };
}

/** Waits until the load has been answered rightly for two seconds, or 20 s are over. */
async function settled(seen: readonly Observation[]): Promise<void> {
  for (const until = Date.now() + 20_000; Date.now() < until; await delay(200)) {
    const recent = seen.filter(({ endedAt }) => endedAt > Date.now() - 2_000);
    if (recent.length > 0 && recent.every(({ outcome }) => outcome === "right")) return;
  }
}

async function countConnections(world: World): Promise<number> {
  const [row] = await world.query("select count(*)::int as count from upstream_token");
  return Number(row?.count);
}

function difference(after: Counts, before: Counts): Counts {
  return {
    refreshes: after.refreshes - before.refreshes,
    needed: after.needed - before.needed,
    failed: after.failed - before.failed,
    revokedByReuse: after.revokedByReuse - before.revokedByReuse,
    revokedInGap: after.revokedInGap - before.revokedInGap,
  };
}
