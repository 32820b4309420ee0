/** Tasks at a time: enough to keep a database busy, and few enough that each still answers in time. */
const atOnce = 32;
/** Assumed time between two tasks until it is measured; also the least, for tasks that fail at once, ms. */
const leastIntervalMs = 2;
/** The most that is assumed for `Retry-After`: a database that hangs for a moment must not keep callers away for a minute, ms. */
const mostIntervalMs = 10;
/** Weight of the newest measurement. */
const weight = 0.05;
/** Half-life of the number of callers turned away, ms. */
const halfLifeMs = 10_000;
/** Even a few callers must not come back together, s. */
const leastSpread = 3;
const longestSeconds = 60;
/** Of this many turns, one is for callers of whom nothing is known yet, if any wait. */
const turnsPerUnknown = 4;

/**
 * Admission control of one process: work that needs CPU time and the database begins only while it can end in time. The rest is turned away
 * at once, which costs next to nothing, and is spread over the time that it will take. Otherwise those who come back keep the process as
 * busy as it was, and nobody is served.
 */
export class Admission {
  readonly #longestWaitMs: () => number;
  readonly #now: () => number;
  readonly #waiting = { known: new Set<() => void>(), unknown: new Set<() => void>() };
  #running = 0;
  #turns = 0;
  /** Measured average between two ends while all places are taken. */
  #intervalMs = leastIntervalMs;
  #lastEndAt = 0;
  /** Callers lately turned away. */
  #owed = 0;
  #owedAt = 0;

  /**
   * @param longestWaitMs how long a task may wait for its turn
   * @param now monotonic, ms; default: the process's clock
   */
  constructor(longestWaitMs: () => number, now: () => number = () => performance.now()) {
    this.#longestWaitMs = longestWaitMs;
    this.#now = now;
  }

  /**
   * Turns a caller away if a task would wait too long.
   * @param known as in `run`
   * @returns when it can come back, seconds; undefined: it may begin
   */
  turnAway(known = false): number | undefined {
    if (this.#running < atOnce) return undefined;
    const waiting = this.#waiting.known.size + (known ? 0 : this.#waiting.unknown.size);
    // Without an end for long, the pace is slower than measured.
    const intervalMs = Math.max(this.#intervalMs, (this.#now() - this.#lastEndAt) / atOnce);
    if ((waiting + 1) * intervalMs <= this.#longestWaitMs()) return undefined;
    return this.retryAfterSeconds();
  }

  /** `Retry-After` of one more caller that could not be served: longer, the more of them there are, with jitter. */
  retryAfterSeconds(): number {
    const now = this.#now();
    this.#owed = 1 + this.#owed * 0.5 ** ((now - this.#owedAt) / halfLifeMs);
    this.#owedAt = now;
    // Twice the time that they take: others come as well.
    const takeSeconds = (2 * this.#owed * Math.min(mostIntervalMs, this.#intervalMs)) / 1000;
    return 1 + Math.floor(Math.random() * Math.min(longestSeconds, leastSpread + takeSeconds));
  }

  /** Runs `task` when its turn comes. @param known its caller has been verified: it is begun before most others */
  async run<T>(task: () => Promise<T>, known = false): Promise<T> {
    if (this.#running >= atOnce)
      await new Promise<void>((begin) => this.#waiting[known ? "known" : "unknown"].add(begin));
    else if (++this.#running === atOnce) this.#lastEndAt = this.#now();
    try {
      return await task();
    } finally {
      this.#end();
    }
  }

  #end(): void {
    const now = this.#now();
    // With places to spare, it recovers.
    const measured = this.#running === atOnce ? now - this.#lastEndAt : leastIntervalMs;
    this.#intervalMs += weight * (Math.max(leastIntervalMs, measured) - this.#intervalMs);
    this.#lastEndAt = now;
    const { known, unknown } = this.#waiting;
    const [first, second] = ++this.#turns % turnsPerUnknown === 0 ? [unknown, known] : [known, unknown];
    // Whoever is next takes the place as it is.
    const next = takeFirst(first) ?? takeFirst(second);
    if (next) next();
    else this.#running--;
  }
}

/** The one that was added first. */
function takeFirst<T>(waiting: Set<T>): T | undefined {
  for (const one of waiting) {
    waiting.delete(one);
    return one;
  }
  return undefined;
}
