/** Tasks at a time: enough to keep a database busy, and few enough that each still answers in time. */
const atOnce = 32;
/** Assumed time between two tasks until it is measured; also the least, for tasks that fail at once, ms. */
const leastIntervalMs = 2;
/** Weight of the newest measurement. */
const weight = 0.05;
/** A turned away caller is forgotten by half within this, ms. */
const halfLifeMs = 10_000;
const longestSeconds = 60;

/**
 * Admission control of one process: work that needs CPU time and the database begins only while it can end in time. The rest is turned away
 * at once, which costs next to nothing, and is spread over the time that it will take. Otherwise those who come back keep the process as
 * busy as it was, and nobody is served.
 */
export class Admission {
  readonly #longestWaitMs: () => number;
  readonly #waiting = { known: new Queue<() => void>(), unknown: new Queue<() => void>() };
  #running = 0;
  /** Measured average between two ends while all places are taken. */
  #intervalMs = leastIntervalMs;
  #lastEndAt = 0;
  /** Callers lately turned away. */
  #owed = 0;
  #owedAt = 0;

  /** @param longestWaitMs how long a task may wait for its turn */
  constructor(longestWaitMs: () => number) {
    this.#longestWaitMs = longestWaitMs;
  }

  /**
   * Turns a caller away if a task would wait too long.
   * @param known as in `run`
   * @returns when it can come back, seconds; undefined: it may begin
   */
  turnAway(known = false, now = performance.now()): number | undefined {
    if (this.#running < atOnce) return undefined;
    const waiting = this.#waiting.known.size + (known ? 0 : this.#waiting.unknown.size);
    // Without an end for long, the pace is slower than measured.
    const intervalMs = Math.max(this.#intervalMs, (now - this.#lastEndAt) / atOnce);
    if ((waiting + 1) * intervalMs <= this.#longestWaitMs()) return undefined;
    return this.retryAfterSeconds(now);
  }

  /** `Retry-After` of one more caller that could not be served: longer, the more of them there are, with jitter. */
  retryAfterSeconds(now = performance.now()): number {
    this.#owed = 1 + this.#owed * 0.5 ** ((now - this.#owedAt) / halfLifeMs);
    this.#owedAt = now;
    // Twice the time that they take: others come as well.
    const withinSeconds = Math.min(longestSeconds - 1, 1 + (2 * this.#owed * this.#intervalMs) / 1000);
    return 1 + Math.floor(Math.random() * withinSeconds);
  }

  /** Runs `task` when its turn comes. @param known it is begun before tasks of callers of whom nothing is known yet */
  async run<T>(task: () => Promise<T>, known = false): Promise<T> {
    if (this.#running >= atOnce)
      await new Promise<void>((begin) => this.#waiting[known ? "known" : "unknown"].add(begin));
    else {
      if (this.#running === 0) this.#lastEndAt = performance.now();
      this.#running++;
    }
    try {
      return await task();
    } finally {
      this.#end();
    }
  }

  #end(): void {
    const now = performance.now();
    if (this.#running === atOnce)
      this.#intervalMs += weight * (Math.max(leastIntervalMs, now - this.#lastEndAt) - this.#intervalMs);
    this.#lastEndAt = now;
    // Whoever is next takes the place as it is.
    const next = this.#waiting.known.next() ?? this.#waiting.unknown.next();
    if (next) next();
    else this.#running--;
  }
}

/** First in, first out. */
class Queue<T> {
  readonly #entries = new Set<{ readonly value: T }>();

  get size(): number {
    return this.#entries.size;
  }

  add(value: T): void {
    this.#entries.add({ value });
  }

  next(): T | undefined {
    for (const entry of this.#entries) {
      this.#entries.delete(entry);
      return entry.value;
    }
    return undefined;
  }
}
