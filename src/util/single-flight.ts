import { boundedCache } from "./bounded-cache.ts";

/**
 * Runs a task once for all concurrent callers of the same key. With `failureMs`, later callers get the same failure for that long, so
 * that they do not all call a failing or slow server.
 */
export class SingleFlight<T> {
  readonly #running = new Map<string, Promise<T>>();
  readonly #failureMs: number;
  readonly #failed: ReturnType<
    typeof boundedCache<string, { readonly until: number; readonly error: unknown }>
  >;

  /** @param options.failures how many failures are cached */
  constructor(
    options: { readonly failureMs: number; readonly failures: number } = { failureMs: 0, failures: 1 },
  ) {
    this.#failureMs = options.failureMs;
    this.#failed = boundedCache(options.failures);
  }

  /** The running task of `key`. */
  get(key: string): Promise<T> | undefined {
    return this.#running.get(key);
  }

  /** The number of running tasks. */
  get size(): number {
    return this.#running.size;
  }

  run(key: string, start: () => Promise<T>): Promise<T> {
    const running = this.#running.get(key);
    if (running) return running;
    const before = this.#failureMs > 0 ? this.#failed.get(key) : undefined;
    if (before && before.until > Date.now()) return Promise.reject(before.error);
    const started = start()
      .catch((error: unknown) => {
        if (this.#failureMs > 0) this.#failed.set(key, { until: Date.now() + this.#failureMs, error });
        throw error;
      })
      .finally(() => this.#running.delete(key));
    this.#running.set(key, started);
    return started;
  }

  /** Resolves when all tasks that are running now have settled. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#running.values());
  }
}

/** Runs the calls of `work` one after another: an older reading never replaces a newer one. */
export function serialized(work: () => Promise<void>): () => Promise<void> {
  let last: Promise<void> = Promise.resolve();
  return () => {
    const done = last.then(work);
    last = done.catch(() => {});
    return done;
  };
}
