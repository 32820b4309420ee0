/** What a place counts for: at most `max` places of one key are taken at once. */
export interface Share {
  readonly key: string;
  readonly max: number;
}

interface Waiter {
  readonly shares: readonly Share[];
  readonly enter: (leave: () => void) => void;
}

/** A limited number of places, in this process, in all and by key: what takes one gives it back when it is done. */
export class Places {
  readonly #max: number;
  readonly #taken = new Map<string, number>();
  #all = 0;
  #waiting: Waiter[] = [];

  /** @param max places in all */
  constructor(max: number) {
    this.#max = max;
  }

  /** Takes a place. @returns what gives it back; undefined, without waiting, if there is none */
  take(...shares: readonly Share[]): (() => void) | undefined {
    if (this.#all >= this.#max || shares.some(({ key, max }) => this.#of(key) >= max)) return undefined;
    this.#all += 1;
    for (const { key } of shares) this.#taken.set(key, this.#of(key) + 1);
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#leave(shares);
    };
  }

  /**
   * Waits for a place: the first that has waited and that no key of its own keeps out is next.
   * @returns what gives it back
   * @throws the signal's reason
   */
  async wait(signal: AbortSignal, ...shares: readonly Share[]): Promise<() => void> {
    signal.throwIfAborted();
    const taken = this.take(...shares);
    if (taken) return taken;
    const { promise, resolve, reject } = Promise.withResolvers<() => void>();
    const waiter: Waiter = { shares, enter: resolve };
    const onAbort = () => {
      this.#waiting = this.#waiting.filter((one) => one !== waiter);
      reject(signal.reason);
    };
    this.#waiting.push(waiter);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  #of(key: string): number {
    return this.#taken.get(key) ?? 0;
  }

  #leave(shares: readonly Share[]): void {
    this.#all -= 1;
    for (const { key } of shares) {
      const left = this.#of(key) - 1;
      if (left > 0) this.#taken.set(key, left);
      else this.#taken.delete(key);
    }
    for (const waiter of this.#waiting) {
      const leave = this.take(...waiter.shares);
      if (leave === undefined) continue;
      this.#waiting = this.#waiting.filter((one) => one !== waiter);
      waiter.enter(leave);
      return;
    }
  }
}

/**
 * Like `Promise.all` of a map, with at most `max` running at once, begun in order.
 * @param enough asked before each: when true, the rest is not begun
 * @returns the results of those that were begun, in their order
 */
export async function mapAtOnce<T, R>(
  items: Iterable<T>,
  max: number,
  work: (item: T) => Promise<R>,
  enough: () => boolean = () => false,
): Promise<R[]> {
  const results: R[] = [];
  const entries = [...items].entries();
  const worker = async () => {
    // The workers share the iterator: asked first, so that what is taken is also done.
    while (!enough()) {
      const next = entries.next();
      if (next.done) return;
      const [index, item] = next.value;
      results[index] = await work(item);
    }
  };
  await Promise.all(Array.from({ length: max }, worker));
  return results;
}
