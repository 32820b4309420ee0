import { boundedCache } from "../util/bounded-cache.ts";

/** Owners whose rate is remembered. */
const maxOwners = 10_000;

interface Queue<T> {
  /** How often work may be done at once. */
  tokens: number;
  /** When `tokens` was right, ms. */
  at: number;
  /** By key. */
  readonly waiting: Map<string, T>;
  timer?: NodeJS.Timeout;
}

/**
 * Limits how often work is done for each owner: `burst` times, then once in `everyMs`, with everything that was added in the meantime. Of
 * two items with the same key, the later one replaces the earlier one. Beyond `maxWaiting`, items are dropped.
 */
export class Paced<T> {
  readonly #limits: { readonly burst: number; readonly everyMs: number; readonly maxWaiting: number };
  readonly #work: (items: readonly T[]) => void;
  readonly #onDropped: () => void;
  readonly #queues = boundedCache<string, Queue<T>>(maxOwners);
  #closed = false;

  constructor(
    limits: { readonly burst: number; readonly everyMs: number; readonly maxWaiting: number },
    work: (items: readonly T[]) => void,
    onDropped: () => void,
  ) {
    this.#limits = limits;
    this.#work = work;
    this.#onDropped = onDropped;
  }

  add(owner: string, key: string, item: T): void {
    const { burst, everyMs, maxWaiting } = this.#limits;
    const queue: Queue<T> = this.#queues.get(owner) ?? {
      tokens: burst,
      at: performance.now(),
      waiting: new Map(),
    };
    this.#queues.set(owner, queue);
    if (queue.waiting.size >= maxWaiting && !queue.waiting.has(key)) {
      this.#onDropped();
      return;
    }
    queue.waiting.set(key, item);
    if (queue.timer !== undefined) return;
    const now = performance.now();
    queue.tokens = Math.min(burst, queue.tokens + (now - queue.at) / everyMs);
    queue.at = now;
    // Never at once: what comes in one request is done together.
    const wait = Math.max(0, (1 - queue.tokens) * everyMs);
    queue.timer = setTimeout(() => this.#flush(queue), wait).unref();
  }

  #flush(queue: Queue<T>): void {
    delete queue.timer;
    const now = performance.now();
    queue.tokens += (now - queue.at) / this.#limits.everyMs - 1;
    queue.at = now;
    const items = [...queue.waiting.values()];
    queue.waiting.clear();
    if (!this.#closed) this.#work(items);
  }

  close(): void {
    this.#closed = true;
  }
}
