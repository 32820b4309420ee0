import type { AuditBatch, AuditTrail, EventTime } from "../store/audit-batches.ts";
import type { AuditEvent, RecordedAuditEvent } from "../store/audit-events.ts";
import { dayOf } from "../store/audit-partitions.ts";
import {
  type Checkpoint,
  type Floor,
  hashBatch,
  hashEvents,
  InvalidCheckpoint,
  newChainId,
  signCheckpoint,
} from "./chain.ts";

/** Events in a batch, at most. */
const batchSize = 2_000;
/** A round looks at the events of this time again, since they are committed after their time is set, ms. */
const settleMs = 15_000;
/** How late an event may be committed, after its time, to be chained; every so many rounds look back so far, ms. */
export const lateMs = 10 * 60_000;
const lateEveryMs = 60_000;
// Not 0: the clock of a process begins there.
const neverMs = Number.NEGATIVE_INFINITY;

/** What a round has chained. */
export interface Round {
  readonly chained: number;
  readonly oldestMs: number;
}

/** Appends events to the chain of batches. One process does it; a second one at the same time does no harm. */
export interface Chain {
  /**
   * Chains the events that have been committed since the last round.
   * @returns how many, and how old the oldest of them was, ms
   */
  round(): Promise<Round>;
  /** Appends a batch without events, whose checkpoint states that what is before `cut` has expired. */
  raiseFloor(cut: Date): Promise<Floor>;
  /** What the last checkpoint says has expired. */
  floor(): Promise<Floor | undefined>;
}

/** The last batch, and how far the chain has looked. */
interface State {
  readonly number: number;
  readonly hash: string;
  readonly since: Date;
  readonly floor?: Floor;
  /** All events from before are chained, or too late. */
  through: Date;
  /** When the last round looked back for late events, by this process's clock; -Infinity: not yet. */
  lookedBack: number;
}

/** What the chain finds wrong with the stored batches. */
export type ChainProblem = "invalid_checkpoint" | "shortened" | "rewritten";

/**
 * Finds new events by their time and not by their id or transaction: ids may be anything after somebody has written to the table, and
 * transaction ids start over after a restore into another cluster.
 */
export function createChain(deps: {
  readonly trail: AuditTrail;
  readonly signer: () => { readonly kid: string; readonly key: CryptoKey };
  readonly verify: (jws: string) => Promise<Checkpoint>;
  readonly onProblem: (problem: ChainProblem, batch: number) => void;
}): Chain {
  const { trail, signer, onProblem } = deps;
  let state: State | undefined;

  async function load(): Promise<State> {
    const last = await trail.latest();
    if (state && last?.number === state.number && last.hash === state.hash) return state;
    // Nobody removes a batch that this process has seen at the end, or replaces it.
    if (state && (last === undefined || last.number < state.number)) onProblem("shortened", state.number);
    else if (state && last?.number === state.number) onProblem("rewritten", state.number);
    state = last === undefined ? await begin() : await continueAfter(last);
    return state;
  }

  /** The first batch has no events: events from before it are not in the chain. */
  async function begin(): Promise<State> {
    const now = await trail.now();
    return append({ number: 0, hash: newChainId(), since: now, through: now, lookedBack: neverMs }, [], now);
  }

  async function continueAfter(last: AuditBatch): Promise<State> {
    const checkpoint = await deps.verify(last.checkpoint).catch((error: unknown) => {
      if (!(error instanceof InvalidCheckpoint)) throw error;
      onProblem("invalid_checkpoint", last.number);
      return undefined;
    });
    const through = checkpoint?.time ?? last.lastAt;
    return {
      number: last.number,
      hash: last.hash,
      since: checkpoint?.since ?? last.firstAt,
      ...(checkpoint?.floor && { floor: checkpoint.floor }),
      ...{ through, lookedBack: neverMs },
    };
  }

  /** @returns the state after it; starts over if another process was faster */
  async function append(
    before: State,
    events: readonly RecordedAuditEvent[],
    now: Date,
    more: { readonly floor?: Floor; readonly audit?: AuditEvent } = {},
  ): Promise<State> {
    const number = before.number + 1;
    const hashed = hashEvents(events);
    const floor = more.floor ?? before.floor;
    const times = events.map(({ at }) => at.getTime());
    const ids = hashed.map(({ id }) => id);
    const summary = {
      number,
      previous: before.hash,
      hash: hashBatch(number, before.hash, hashed),
      firstAt: times.length === 0 ? now : new Date(Math.min(...times)),
      lastAt: times.length === 0 ? now : new Date(Math.max(...times)),
    };
    const checkpoint = await signCheckpoint(
      {
        ...summary,
        count: ids.length,
        ...(ids.length > 0 && { firstId: Math.min(...ids), lastId: Math.max(...ids) }),
        ...{ time: now, since: before.since, ...(floor && { floor }) },
      },
      signer(),
    );
    const hashes = Buffer.concat(hashed.map(({ hash }) => hash));
    if (!(await trail.append({ ...summary, ids, hashes, checkpoint }, more.audit))) {
      state = undefined;
      throw new ChainOvertaken();
    }
    state = { ...before, number, hash: summary.hash, ...(floor && { floor }) };
    return state;
  }

  async function round(): Promise<Round> {
    let current = await load();
    const now = await trail.now();
    const lookBack = performance.now() - current.lookedBack > lateEveryMs;
    const from = new Date(current.through.getTime() - (lookBack ? lateMs : settleMs));
    let [chained, oldest] = [0, now.getTime()];
    for await (const page of trail.pagesSince(from)) {
      const known = await trail.chained(page.map(({ id }) => id));
      const fresh = page.filter(({ id }) => !known.has(id));
      for (const part of parts(fresh)) {
        const times = part.map(({ at }) => at.getTime());
        const span = { from: new Date(Math.min(...times)), to: new Date(Math.max(...times)) };
        const read = await trail.events(
          part.map(({ id }) => id),
          span,
        );
        current = await append(current, read, now);
        oldest = Math.min(oldest, ...times);
      }
      chained += fresh.length;
    }
    current.through = now;
    if (lookBack) current.lookedBack = performance.now();
    return { chained, oldestMs: now.getTime() - oldest };
  }

  return {
    round: () => retried(round),
    floor: async () => (await load()).floor,
    raiseFloor: (cut) =>
      retried(async () => {
        const current = await load();
        const now = await trail.now();
        const batch = (await trail.firstBatchSince(cut)) ?? current.number + 1;
        const floor = { batch: Math.max(batch, current.floor?.batch ?? 0), before: cut };
        await append(current, [], now, {
          floor,
          audit: {
            action: "audit.pruned",
            detail: { before: cut.toISOString(), first_batch: floor.batch },
          },
        });
        return floor;
      }),
  };
}

/** Another process has appended a batch with the same number. */
class ChainOvertaken extends Error {}

async function retried<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof ChainOvertaken) || attempt === 5) throw error;
    }
  }
}

/** Events of one UTC day each, in the order of their ids. */
function parts(events: readonly EventTime[]): EventTime[][] {
  const sorted = events.toSorted((one, other) => one.id - other.id);
  const days = Map.groupBy(sorted, ({ at }) => dayOf(at).getTime());
  return [...days.values()].flatMap((day) =>
    Array.from({ length: Math.ceil(day.length / batchSize) }, (_, n) =>
      day.slice(n * batchSize, (n + 1) * batchSize),
    ),
  );
}
