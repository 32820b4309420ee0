import { boundedCache } from "./bounded-cache.ts";

/**
 * Runs a task once for all concurrent callers of the same key.
 *
 * With `failureMs`, later callers get the same failure for that long: a server that fails, or is slow, is not called again by
 * each of them.
 */
export class SingleFlight<T> {
  readonly #running = new Map<string, Promise<T>>();
  readonly #failureMs: number;
  readonly #failed: ReturnType<
    typeof boundedCache<string, { readonly until: number; readonly error: unknown }>
  >;

  /** @param options.failures how many failures are kept */
  constructor(
    options: { readonly failureMs: number; readonly failures: number } = { failureMs: 0, failures: 1 },
  ) {
    this.#failureMs = options.failureMs;
    this.#failed = boundedCache(options.failures);
  }

  /** What is under way for `key`. */
  get(key: string): Promise<T> | undefined {
    return this.#running.get(key);
  }

  /** How many are under way. */
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

  /** Resolves when all that is under way now has ended. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#running.values());
  }
}
