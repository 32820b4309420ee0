import { boundedCache } from "./bounded-cache.ts";

const hourMs = 3_600_000;
/** Beyond this many keys, the least recently used one is evicted and starts over. */
const maxKeys = 100_000;

/** Counts by key, in this process, in windows of an hour that start at a key's first count. */
export interface HourlyCounts {
  /** Counts one more; false, without counting, if `max` is reached. */
  take(key: string, max: number): boolean;
  /** Seconds until the key's window ends, at least 1. */
  retryAfter(key: string): number;
}

export function countPerHour(): HourlyCounts {
  const counts = boundedCache<string, { used: number }>(maxKeys, { ttl: hourMs });
  return {
    take(key, max) {
      const count = counts.get(key) ?? { used: 0 };
      if (count.used >= max) return false;
      count.used += 1;
      counts.set(key, count, { noUpdateTTL: true });
      return true;
    },
    retryAfter: (key) => Math.max(1, Math.ceil(counts.getRemainingTTL(key) / 1000)),
  };
}
