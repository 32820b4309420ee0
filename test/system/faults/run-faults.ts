import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { configurationFaults } from "./configuration-faults.ts";
import { databaseFaults } from "./database-faults.ts";
import type { Fault, Scene } from "./fault.ts";
import { faultTable, noticed } from "./fault-table.ts";
import { herdFaults } from "./herd-faults.ts";
import { hungInCrowdMs, type Load, type Observation, type Outcome, startLoad } from "./load.ts";
import { peopleFaults } from "./people-faults.ts";
import { recovery } from "./recovery.ts";
import { replicaFaults } from "./replica-faults.ts";
import type { Counts } from "./rotating-authorization-server.ts";
import { type SmallDisk, smallDisk } from "./small-disk.ts";
import { slowUnauthenticated } from "./unauthenticated-load.ts";
import { upstreamFaults } from "./upstream-faults.ts";
import { startWorld, type World } from "./world.ts";

/** One row of the table. */
export interface FaultResult {
  readonly name: string;
  readonly seconds: number;
  readonly calls: number;
  readonly outcomes: Readonly<Record<Outcome, number>>;
  /** Allowed errors that arrived as late as a timeout. */
  readonly late: number;
  /** Number of responses other than the right one, by kind. */
  readonly answers: Readonly<Record<string, number>>;
  /** Connections in the store. */
  readonly before: number;
  readonly after: number;
  /** Unexpectedly missing afterwards, including those in the gap. */
  readonly lost: number;
  readonly server: Counts;
  /** Whether all calls were right afterwards, continuously for a while. */
  readonly wellAgain: boolean;
  readonly note?: string;
  /** Targets of this fault alone that were missed. */
  readonly missed?: readonly string[];
}

const all: readonly Fault[] = [
  ...replicaFaults,
  ...databaseFaults,
  ...upstreamFaults,
  ...configurationFaults,
  ...peopleFaults,
  slowUnauthenticated,
];

/**
 * Injects one fault after another into three replicas under load, and returns the result of each.
 * @param options.short fewer people and faults, less time for each, for `make test`
 * @param options.only names (or parts of them) of the faults to run
 */
export async function runFaults(options: {
  short: boolean;
  only?: readonly string[];
  progress?: (line: string) => void;
}): Promise<{
  readonly results: readonly FaultResult[];
  readonly strangeCredentials: number;
  /** Faults that this machine cannot have, and why. */
  readonly notRun: readonly string[];
}> {
  const { short, only, progress = () => {} } = options;
  const isChosen = ({ name, short: telling }: Pick<Fault, "name" | "short">) =>
    (!short || telling) && (!only || only.some((part) => name.includes(part)));
  // A dead replica's lease lasts twice this plus ten seconds.
  const size = { lifeSeconds: short ? 8 : 20, upstreamTimeout: short ? "4s" : "10s", progress };
  const herds = herdFaults.filter(isChosen);
  const results: FaultResult[] = [];
  const notRun: string[] = [];
  let strangeCredentials = 0;
  async function bring(faults: readonly Fault[], world: World): Promise<void> {
    const load = startLoad({
      fetch: world.fetch,
      calls: () => world.calls,
      perSecond: short ? 20 : 100,
      atMost: short ? 30 : undefined,
      ...(faults === herds && { timeoutMs: hungInCrowdMs }),
    });
    try {
      await delay(short ? 2_000 : 5_000);
      for (const fault of faults) {
        progress(fault.name);
        // Failures that a stalled machine explains are retried: a bug fails every time, and its quick errors count at once.
        for (let attempt = 1; ; attempt++) {
          const result = await runOne(fault, world, load, short);
          progress(`  ${JSON.stringify(result)}`);
          if (short && attempt < 3 && onlyLate(result)) continue;
          results.push(result);
          break;
        }
      }
    } finally {
      await load.stop();
      strangeCredentials += world.upstream.strangeCredentials();
      await world.close();
    }
  }
  const onPostgres = all.filter(isChosen);
  if (onPostgres.length > 0) {
    const users = short ? 10 : 50;
    await bring(onPostgres, await startWorld({ ...size, replicas: 3, users, routes: short ? 5 : 10 }));
  }
  if (herds.length > 0)
    await bring(herds, await startWorld({ ...size, replicas: 3, users: 50, routes: 10, direct: true }));
  if (isChosen(diskFull)) {
    const disk = await smallDisk(192);
    if (!disk) notRun.push(`${diskFull.name}: mounting a small disk requires root`);
    else {
      try {
        const embeddedDir = join(disk.folder, "data");
        // Refreshed constantly, so that there are always writes.
        const restless = { ...size, lifeSeconds: 3, replicas: 1, users: 20, routes: 5 };
        const world = await startWorld({ ...restless, embeddedDir });
        await bring([fillDisk(disk)], world);
      } finally {
        await disk.close();
      }
    }
  }
  return { results, strangeCredentials, notRun };
}

const diskFull = { name: "disk full on the embedded database" } as const;

/** Writes fail and reads continue; writes recover when there is space again. */
function fillDisk(disk: SmallDisk): Fault {
  return {
    ...diskFull,
    async run(scene) {
      await disk.fill();
      await scene.pause(15_000);
      await disk.empty();
      const backAt = Date.now();
      await delay(10_000);
      return recovery(scene, backAt);
    },
  };
}

/** A call that failed later than this hit a timeout, its own or that of another call it waited for, ms. */
const lateMs = 1_000;

/** Whether all missed targets are due to timeouts. */
function onlyLate(result: FaultResult): boolean {
  const { outcomes, late } = result;
  const without = { ...result, outcomes: { ...outcomes, allowed: 0 }, late: 0, answers: {} };
  return (
    late === outcomes.allowed &&
    noticed(result, false) > 0 &&
    faultTable([without], 0, { timed: false }).failures.length === 0
  );
}

async function runOne(fault: Fault, world: World, load: Load, short: boolean): Promise<FaultResult> {
  const from = load.seen.length;
  const startedAt = Date.now();
  const own: Observation[] = [];
  const serverBefore = world.server.counts();
  const before = await countConnections(world);
  const scene: Scene = Object.assign(Object.create(world), {
    short,
    rest: load.rest,
    seen: () => [...load.seen.slice(from), ...own],
    count: (observation: Observation) => void own.push(observation),
    pause: (ms: number) => delay(short ? ms / 3 : ms),
    async hammer(calls: Parameters<Scene["hammer"]>[0], perSecond: number, ms: number) {
      const one = startLoad({ fetch: world.fetch, calls: () => calls, perSecond });
      await delay(ms);
      await one.stop();
      own.push(...one.seen);
      return one.seen;
    },
  });
  const reported = await fault.run(scene);
  const { note, missed } = typeof reported === "object" ? reported : { note: reported, missed: [] };
  world.calls = scene.calls;
  let wellAgain = await settled(load, world, short);
  const seen = scene.seen();
  const outcomes: Record<Outcome, number> = { right: 0, allowed: 0, wrong: 0, hung: 0 };
  const answers: Record<string, number> = {};
  const errors = seen.filter(({ outcome }) => outcome === "allowed");
  // Also right ones: while the database is slow, excess calls fail at once, and the others wait and are served.
  const stalled = seen.filter(({ startedAt, endedAt }) => endedAt - startedAt > lateMs);
  const stalledSeconds = new Set(
    stalled.flatMap((call) => secondsOf(call.startedAt - lateMs, call.endedAt + lateMs)),
  );
  const late = errors.filter((error) =>
    secondsOf(error.startedAt, error.endedAt).some((second) => stalledSeconds.has(second)),
  ).length;
  for (const { outcome, what } of seen) {
    outcomes[outcome]++;
    if (outcome !== "right") answers[what] = (answers[what] ?? 0) + 1;
  }
  const serverAfter = world.server.counts();
  const after = await countConnections(world);
  const lost = await lostConnections(world);
  // The person consents again.
  for (const { userId, routeId } of lost) await world.seed.connect(userId, routeId);
  // Until then they are challenged, which must not count for the next fault.
  if (lost.length > 0) wellAgain = await settled(load, world, short);
  return {
    name: fault.name,
    seconds: (Date.now() - startedAt) / 1000,
    calls: seen.length,
    outcomes,
    late,
    answers,
    before: before + (fault.expectedConnections?.(world) ?? 0),
    after,
    lost: lost.length,
    server: difference(serverAfter, serverBefore),
    wellAgain,
    note,
    missed,
  };
}

/** The seconds between two times (ms since the epoch), including theirs. */
function secondsOf(from: number, to: number): readonly number[] {
  const first = Math.floor(from / 1000);
  return Array.from({ length: Math.floor(to / 1000) - first + 1 }, (_, index) => first + index);
}

/**
 * Waits until all calls have been right for four seconds and none is pending, for at most 20 s; ignores calls on lost connections.
 * The short run requires three seconds, in which each connection is used once, and waits longer for a stalled machine.
 * @returns whether this was reached
 */
async function settled({ seen, longestMs }: Load, world: World, short: boolean): Promise<boolean> {
  const [rightForMs, timeoutMs] = short ? [3_000, 60_000] : [4_000, 20_000];
  for (const until = Date.now() + timeoutMs; Date.now() < until; await delay(200)) {
    const recent = seen.filter(({ endedAt }) => endedAt > Date.now() - rightForMs);
    if (recent.length === 0 || longestMs() >= 1_000) continue;
    const others = recent.filter(({ outcome }) => outcome !== "right");
    if (others.length === 0) return true;
    const lost = new Set((await lostConnections(world)).map(({ userId, routeId }) => `${userId} ${routeId}`));
    if (others.every(({ call }) => lost.has(call.owner ?? ""))) return true;
  }
  return false;
}

async function countConnections(world: World): Promise<number> {
  const [row] = await world.query("select count(*)::int as count from upstream_token");
  return Number(row?.count);
}

/** Missing connections of people who still make calls. */
async function lostConnections(world: World): Promise<{ userId: string; routeId: string }[]> {
  if (world.embedded) return [];
  const rows = await world.query("select user_id || ' ' || route_id as owner from upstream_token");
  const there = new Set(rows.map(({ owner }) => owner));
  return world.calls.flatMap(({ owner = "" }) => {
    const [userId = "", routeId = ""] = owner.split(" ");
    return there.has(owner) ? [] : [{ userId, routeId }];
  });
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
