import { isTransient, readFailureCode } from "../upstream-oauth/failures.ts";
import type { NonInteractiveOutcome, RefreshOutcome } from "../upstream-oauth/upstream-oauth.ts";

/** Refreshes at a time per server, of all workers: to begin with, and the most while it answers in a fraction of the timeout. */
const fewest = 10;
const most = 50;
/** Connections that may wait, in all and of one server. */
const maxWaiting = 20_000;
const maxWaitingOfOne = 15_000;
/** This many failures in a row stop the queue of a server; then one refresh at a time tries it, after these pauses, growing. */
const failuresToPause = 3;
const firstPauseMs = 1_000;
const maxPauseMs = 4_000;
/** Assumed time between two refreshes until it is measured, ms. */
const firstIntervalMs = 10;
/** Weight of the newest measurement. */
const weight = 0.05;

/** A connection in the queue. */
export interface Place {
  /** The authorization server, and which of its clients: it limits the rate of each. */
  readonly server: string;
  /** `connectionKeyName`. */
  readonly name: string;
  /** The version to refresh; absent: none yet. */
  readonly version?: number;
  /** A check waits for it: it goes before refreshes ahead of expiry. */
  readonly urgent: boolean;
}

interface Waiting extends Place {
  readonly number: number;
  /** @param has whether its turn has come; false: it need not be refreshed any more */
  readonly settle: (has: boolean) => void;
}

/** A token request, for the pace of its server's queue. */
export interface Paced {
  readonly tookMs: number;
  /** Its timeout. */
  readonly mayTakeMs: number;
  /** Why the server cannot answer at the moment; absent: it has answered. */
  readonly failure?: string;
  /** The server asked for this pause. */
  readonly pauseMs?: number;
}

/** A token request as the queue counts it: only a server that is down or limits the rate is a failure, not a wrong setting of a route. */
export function pacedBy(
  outcome: RefreshOutcome | NonInteractiveOutcome,
  times: Pick<Paced, "tookMs" | "mayTakeMs">,
): Paced {
  if (outcome.kind !== "unavailable" || ("unexplained" in outcome && outcome.unexplained)) return times;
  const { reason, retryAfterSeconds } = outcome;
  const code = readFailureCode(reason);
  if (code === undefined || !isTransient(code)) return times;
  const pauseMs = code === "rate_limited" ? 1000 * Math.min(30, retryAfterSeconds) : undefined;
  return { ...times, failure: code, ...(pauseMs !== undefined && { pauseMs }) };
}

/** How long a connection will probably wait. */
export interface Wait {
  readonly ms: number;
  /** Why its authorization server is not asked now, except by one refresh at a time; absent: it is asked. */
  readonly failure?: string;
}

/**
 * Connections that wait for their refresh, in order of arrival. Each waits once, whether or not its client comes back, and leaves as soon as
 * another replica has refreshed it. How long it will wait is known from the pace of those before it.
 */
export class RefreshQueue {
  readonly #servers = new Map<string, ServerQueue>();
  /** The servers of all connections that wait. */
  readonly #waiting = new Map<string, ServerQueue>();
  readonly #onSize: (size: number) => void;
  readonly #workers: number;
  #closed = false;

  /**
   * @param options.onSize called with the number of waiting connections when it changes
   * @param options.workers processes that refresh tokens of the same servers (1)
   */
  constructor({
    onSize = () => {},
    workers = 1,
  }: { onSize?: (size: number) => void; workers?: number } = {}) {
    this.#onSize = onSize;
    this.#workers = workers;
  }

  /** Runs `task` when its turn comes. `left`: its connection has changed, or this is closed; `full`: too many wait already. */
  async run<T>(place: Place, task: () => Promise<T>): Promise<T | "left" | "full"> {
    if (this.#closed) return "left";
    let queue = this.#servers.get(place.server);
    if (!queue) {
      queue = new ServerQueue(this.#workers);
      this.#servers.set(place.server, queue);
    }
    if (!queue.begin()) {
      if (this.#waiting.size >= maxWaiting || queue.size >= maxWaitingOfOne) return "full";
      this.#waiting.set(place.name, queue);
      this.#onSize(this.#waiting.size);
      const has = await queue.wait(place);
      if (this.#waiting.get(place.name) === queue) this.#waiting.delete(place.name);
      this.#onSize(this.#waiting.size);
      if (!has) return "left";
    }
    try {
      return await task();
    } finally {
      queue.end();
      if (queue.isIdle()) this.#servers.delete(place.server);
    }
  }

  /** Reports a token request. @param server as in `Place` */
  record(server: string, paced: Paced): void {
    this.#servers.get(server)?.record(paced);
  }

  /** How long an urgent connection will probably wait; undefined: it is not urgent, or does not wait. */
  waitOf(name: string): Wait | undefined {
    return this.#waiting.get(name)?.waitOf(name);
  }

  /** Somebody waits for the connection now. */
  hurry(name: string): void {
    this.#waiting.get(name)?.hurry(name);
  }

  /** The connection has changed: it leaves, unless it still has the version that it waits with. */
  changed(name: string, version?: number): void {
    this.#waiting.get(name)?.leave(name, version);
  }

  /** Nothing begins any more. */
  close(): void {
    this.#closed = true;
    for (const [name, queue] of [...this.#waiting]) queue.leave(name);
    for (const queue of this.#servers.values()) queue.close();
  }
}

/** The queue of one server. A Map keeps the order of arrival, and removes anywhere. */
class ServerQueue {
  readonly #urgent = new Map<string, Waiting>();
  readonly #ahead = new Map<string, Waiting>();
  #running = 0;
  #number = 0;
  /** Measured averages, ms. */
  #intervalMs = firstIntervalMs;
  #atOnce: number;
  readonly #fewest: number;
  readonly #most: number;
  #lastTurnAt = performance.now();
  #failures = 0;
  /** Set while paused. */
  #failure: string | undefined;
  #pauseMs = firstPauseMs;
  #pausedUntil = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(workers: number) {
    this.#fewest = Math.max(1, Math.floor(fewest / workers));
    this.#most = Math.max(1, Math.floor(most / workers));
    this.#atOnce = this.#fewest;
  }

  get size(): number {
    return this.#urgent.size + this.#ahead.size;
  }

  /** Takes a turn at once, if there is one. */
  begin(): boolean {
    if (this.#isEmpty() && this.#hasTurn()) {
      this.#begin();
      return true;
    }
    return false;
  }

  wait(place: Place): Promise<boolean> {
    // Nobody waits for it, and the next round of background work finds it again.
    if (!place.urgent && this.#failure !== undefined) return Promise.resolve(false);
    return new Promise((settle) => {
      if (this.#isEmpty()) this.#lastTurnAt = performance.now();
      const line = place.urgent ? this.#urgent : this.#ahead;
      line.set(place.name, { ...place, number: this.#number++, settle });
      this.#next();
    });
  }

  end(): void {
    this.#running--;
    this.#next();
  }

  isIdle(): boolean {
    return this.#running === 0 && this.#isEmpty() && this.#failures === 0;
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  record({ tookMs, mayTakeMs, failure, pauseMs = this.#pauseMs }: Paced): void {
    // A request that is given up may have used the refresh token. So more at once only far from the timeout.
    if (failure !== undefined || tookMs > mayTakeMs / 2)
      this.#atOnce = Math.max(this.#fewest, this.#atOnce / 2);
    else if (tookMs < mayTakeMs / 4) this.#atOnce = Math.min(this.#most, this.#atOnce + 2 / this.#atOnce);
    if (failure === undefined) {
      this.#failures = 0;
      this.#failure = undefined;
      this.#pauseMs = firstPauseMs;
      this.#next();
      return;
    }
    if (++this.#failures < failuresToPause) return;
    this.#failure = failure;
    for (const name of [...this.#ahead.keys()]) this.leave(name);
    // Jitter: the replicas must not come back at the same instant.
    this.#pausedUntil = performance.now() + pauseMs * (1 + Math.random() / 4);
    this.#pauseMs = Math.min(maxPauseMs, 2 * this.#pauseMs);
  }

  waitOf(name: string): Wait | undefined {
    const found = this.#urgent.get(name);
    if (!found) return undefined;
    const now = performance.now();
    const failure = this.#failure;
    const before = countBefore(this.#urgent, found);
    if (failure !== undefined)
      return { ms: Math.max(0, this.#pausedUntil - now) + before * this.#intervalMs, failure };
    // Without a turn for long, the pace is slower than measured.
    return { ms: (before + 1) * Math.max(this.#intervalMs, (now - this.#lastTurnAt) / 10) };
  }

  hurry(name: string): void {
    const found = this.#ahead.get(name);
    if (!found) return;
    this.#ahead.delete(name);
    this.#urgent.set(name, { ...found, urgent: true, number: this.#number++ });
  }

  leave(name: string, version?: number): void {
    const found = this.#urgent.get(name) ?? this.#ahead.get(name);
    if (!found || (version !== undefined && version === found.version)) return;
    this.#remove(found);
    found.settle(false);
  }

  #begin(): void {
    this.#running++;
    // The next one tries it after another pause, even if this one hangs.
    if (this.#failure !== undefined) this.#pausedUntil = performance.now() + this.#pauseMs;
  }

  #isEmpty(): boolean {
    return this.size === 0;
  }

  /** Whether another refresh may start. */
  #hasTurn(): boolean {
    if (this.#failure !== undefined)
      return this.#running < this.#fewest && performance.now() >= this.#pausedUntil;
    return this.#running < Math.floor(this.#atOnce);
  }

  #next(): void {
    while (this.#hasTurn()) {
      const [next] = this.#urgent.size > 0 ? this.#urgent.values() : this.#ahead.values();
      if (!next) return;
      this.#remove(next);
      this.#begin();
      next.settle(true);
    }
    if (this.#failure !== undefined && !this.#isEmpty() && this.#running < this.#fewest) this.#wakeUp();
  }

  #wakeUp(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#next(), Math.max(10, this.#pausedUntil - performance.now()));
    this.#timer.unref();
  }

  #remove(one: Waiting): void {
    (one.urgent ? this.#urgent : this.#ahead).delete(one.name);
    const now = performance.now();
    if (this.#failure === undefined) this.#intervalMs = average(this.#intervalMs, now - this.#lastTurnAt);
    this.#lastTurnAt = now;
  }
}

/** How many are before this one: estimated by its number, since others between them have left. */
function countBefore(line: ReadonlyMap<string, Waiting>, { number }: Waiting): number {
  const [first] = line.values();
  return first ? Math.min(line.size - 1, number - first.number) : 0;
}

function average(before: number, measured: number): number {
  return before + weight * (measured - before);
}
