import { setTimeout as delay } from "node:timers/promises";
import { cpuClock } from "../../../bench/load/cpu-clock.ts";
import { mapAtOnce } from "../../../src/util/at-once.ts";
import { type Answer, connectCrowd } from "./crowd.ts";
import type { Fault, Scene } from "./fault.ts";
import { type Call, type Observation, observe } from "./load.ts";

/** People whose tokens end together, and how many calls they make at once. `HERD=1000`: fewer, to try the suite. */
const crowd = Number(process.env.HERD ?? 10_000);
const atOnce = 1_000;
/** Refreshes one after another whose time bounds the herd's on a slow machine. */
const sample = 200;
/** All are served within this, or within 1.5 times what their refreshes cost one after another. */
const servedWithinMs = 60_000;
/** A share of the clients ignores `Retry-After`, and calls once a second. */
const ignoring = 0.1;
/** Throughput of the others during the herd, relative to before. */
const leastThroughput = 0.8;

interface Herd {
  readonly calls: readonly Call[];
  readonly routeId: string;
  /** Wall-clock time of a refresh on the quiet machine, ms. */
  readonly costMs: number;
  /** Right calls of the others per second, before. */
  readonly othersBefore: number;
}

/** The same people for all faults. */
let gathered: Promise<Herd> | undefined;

/**
 * Thousands of people whose tokens have ended together make calls, and retry.
 * @param outage makes their refreshes fail, and resolves when they could succeed again
 */
function herd(name: string, outage: (scene: Scene) => Promise<void>, withCosts = false): Fault {
  let isFirst = false;
  return {
    name,
    expectedConnections: () => (isFirst ? crowd : 0),
    async run(scene) {
      isFirst = gathered === undefined;
      gathered ??= gather(scene);
      const { calls, routeId, costMs, othersBefore } = await gathered;
      const costs = withCosts ? await costOfShedding(scene, calls, routeId) : undefined;
      const people = await connectCrowd({
        calls: calls.map(({ url, token, owner }) => ({ url, token, owner })),
        edge: scene.edge,
        ...{ atOnce, ignoring },
      });
      await connectAll(scene, calls.map(ownerOf), routeId, 0.001);
      const refreshesBefore = scene.server.counts().refreshes;
      let backAt = Date.now();
      const boundMs = Math.max(servedWithinMs, 1.5 * crowd * costMs);
      const over = outage(scene).then(() => {
        backAt = Date.now();
        // Also ends if they are never served.
        return setTimeout(() => people.stop(), boundMs);
      });
      const [answers, tooLong] = await Promise.all([people.begin(), over]).finally(() => people.close());
      clearTimeout(tooLong);
      const seconds = (Date.now() - backAt) / 1000;
      for (const { index, ...answer } of answers) {
        const call = calls[index];
        if (call) scene.count({ ...answer, call });
      }
      const { right, retryAfter, backIn, unavailable } = countAnswers(answers);
      // During an outage of the database, nobody is served.
      const others = othersRight(scene.seen(), backAt);
      const ratio = others / othersBefore;
      const refreshes = scene.server.counts().refreshes - refreshesBefore;
      const values = [...backIn.values()];
      const together =
        Math.max(0, ...values) /
        Math.max(
          1,
          values.reduce((sum, one) => sum + one, 0),
        );
      const bound = `${(boundMs / 1000).toFixed(0)} s (${boundMs > servedWithinMs ? `${crowd} x ${costMs.toFixed(1)} ms x 1.5` : "the target of a machine that is fast enough"})`;
      const missed = [
        right < crowd && `served ${right} of ${crowd} within ${bound}`,
        refreshes > crowd * 1.02 && `refreshes ${refreshes}`,
        ratio < leastThroughput && `others' throughput ${ratio.toFixed(2)} of before`,
        unavailable > crowd &&
          together > 0.2 &&
          `Retry-After ends in the same second for ${together.toFixed(2)}`,
        Math.max(0, ...retryAfter.keys()) > 60 && `Retry-After ${Math.max(...retryAfter.keys())} s`,
        ...(costs?.missed ?? []),
      ].filter((one) => typeof one === "string");
      const note = [
        `${right} served within ${seconds.toFixed(0)} s, of ${bound}`,
        `${refreshes} refreshes, ${unavailable} x 503`,
        `others' throughput ${ratio.toFixed(2)} of before`,
        `Retry-After ${Math.min(...retryAfter.keys(), 60)} to ${Math.max(0, ...retryAfter.keys())} s, at most ${(100 * together).toFixed(0)} % in the same second`,
        ...(costs ? [costs.note] : []),
      ].join("; ");
      return { note, missed };
    },
  };
}

const ownerOf = (call: Call) => call.owner?.split(" ")[0] ?? "";

/** Creates the people, lets the others get tokens that last, and measures what a refresh costs on the quiet machine. */
async function gather(scene: Scene): Promise<Herd> {
  const routeId = scene.routes[0] ?? "";
  const people = Array.from({ length: crowd }, (_, index) => `company/crowd${index}`);
  const grantId = await scene.seed.grant("company/crowd");
  const calls = await Promise.all(people.map((userId) => scene.seed.call(userId, grantId, routeId)));
  await connectAll(scene, people, routeId, 3_600);
  // The others are not part of the herd: their tokens last, as with most servers, once each has been refreshed.
  scene.server.giveFor(3_600);
  await delay(30_000);
  const startedAt = Date.now();
  await delay(10_000);
  const othersBefore = othersRight(scene.seen(), startedAt);
  scene.rest(true);
  await delay(1_000);
  const measured = calls.slice(0, sample);
  await connectAll(scene, measured.map(ownerOf), routeId, 0.001);
  const sampleAt = performance.now();
  for (const call of measured) {
    const observation = await observe(scene.fetch, call);
    scene.count(observation);
    if (observation.outcome !== "right")
      throw new Error(`a refresh on the quiet machine: ${observation.what}`);
  }
  const costMs = (performance.now() - sampleAt) / measured.length;
  scene.rest(false);
  return { calls, routeId, costMs, othersBefore };
}

/** Connects people with tokens that live for so long. */
async function connectAll(
  { seed }: Scene,
  people: readonly string[],
  routeId: string,
  lifeSeconds: number,
): Promise<void> {
  for (let from = 0; from < people.length; from += 50)
    await Promise.all(
      people.slice(from, from + 50).map((userId) => seed.connect(userId, routeId, lifeSeconds)),
    );
}

/** Right calls of the steady load per second, since this time. */
function othersRight(seen: readonly Observation[], startedAt: number): number {
  const right = seen.filter(
    ({ outcome, endedAt, call }) =>
      outcome === "right" && endedAt >= startedAt && !call.owner?.startsWith("company/crowd"),
  );
  return right.length / ((Date.now() - startedAt) / 1000);
}

/** What came of the calls of the crowd. */
function countAnswers(answers: readonly Answer[]) {
  let right = 0;
  let unavailable = 0;
  /** Responses by the second in which they let the client come back, and by value. */
  const backIn = new Map<number, number>();
  const retryAfter = new Map<number, number>();
  const add = (to: Map<number, number>, key: number) => to.set(key, (to.get(key) ?? 0) + 1);
  for (const { outcome, endedAt, retryAfter: seconds = 1 } of answers) {
    if (outcome === "right") {
      right++;
      continue;
    }
    unavailable++;
    add(retryAfter, seconds);
    add(backIn, Math.floor(endedAt / 1000) + seconds);
  }
  return { right, unavailable, retryAfter, backIn };
}

/** CPU time of the replicas for a 503 while connections wait for their refresh, and for a warm check. */
async function costOfShedding(scene: Scene, calls: readonly Call[], routeId: string) {
  const some = calls.slice(0, Math.min(calls.length, 1_000));
  scene.rest(true);
  // All of them, on every replica.
  for (let round = 0; round < 4; round++) await inParallel(scene, some);
  const warm = await cpuOf(scene, some);
  const answer = Promise.withResolvers<void>();
  await connectAll(scene, some.map(ownerOf), routeId, 0.001);
  scene.server.behave({ kind: "waits", until: answer.promise });
  for (let round = 0; round < 4; round++) await inParallel(scene, some);
  const shed = await cpuOf(scene, some);
  scene.server.behave({ kind: "well" });
  answer.resolve();
  scene.rest(false);
  const is503 = shed.seen.filter(({ what }) => what.startsWith("503")).length / shed.seen.length;
  return {
    note: `CPU time of a 503 ${shed.micros.toFixed(0)} µs, of a warm check ${warm.micros.toFixed(0)} µs`,
    missed: [
      is503 < 0.8 && `only ${(100 * is503).toFixed(0)} % of the calls were 503 while the token endpoint hung`,
      shed.micros > 1.1 * warm.micros &&
        `a 503 costs ${shed.micros.toFixed(0)} µs, a warm check ${warm.micros.toFixed(0)} µs`,
    ],
  };
}

function inParallel(scene: Scene, calls: readonly Call[]): Promise<Observation[]> {
  return mapAtOnce(calls, 100, async (call) => {
    const observation = await observe(scene.fetch, call);
    scene.count(observation);
    return observation;
  });
}

async function cpuOf(scene: Scene, calls: readonly Call[]) {
  const clock = cpuClock(...scene.replicas.map((replica) => replica.process().pid));
  const before = clock();
  const seen = [...(await inParallel(scene, calls)), ...(await inParallel(scene, calls))];
  return { micros: (clock() - before) / seen.length, seen };
}

/** How long the servers are out of order. */
const outageMs = 30_000;

export const herdFaults: readonly Fault[] = [
  herd(`the herd: ${crowd} connections refreshed at the same instant`, async () => {}, true),
  herd("the herd after an outage of the authorization server", async ({ server }) => {
    server.behave({ kind: "status", status: 500 });
    await delay(outageMs);
    server.behave({ kind: "well" });
  }),
  herd("the herd after an outage of the database", async ({ postgres }) => {
    await postgres.stop();
    await delay(outageMs / 2);
    await postgres.start();
  }),
];
