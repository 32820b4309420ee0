import { boundedCache } from "./bounded-cache.ts";

/**
 * Coalesces concurrent requests for the same key and caches failures briefly, so that a failing or slow server delays callers only once.
 *
 * @param options.failureMs how long a failure is cached
 * @param options.failures how many failures are cached
 */
export function joined<T>(options: { readonly failureMs: number; readonly failures: number }) {
  const underWay = new Map<string, Promise<T>>();
  const failed = boundedCache<string, { readonly until: number; readonly error: unknown }>(options.failures);
  return (key: string, ask: () => Promise<T>): Promise<T> => {
    const running = underWay.get(key);
    if (running) return running;
    const before = failed.get(key);
    if (before && before.until > Date.now()) return Promise.reject(before.error);
    const asked = ask()
      .catch((error: unknown) => {
        failed.set(key, { until: Date.now() + options.failureMs, error });
        throw error;
      })
      .finally(() => underWay.delete(key));
    underWay.set(key, asked);
    return asked;
  };
}
