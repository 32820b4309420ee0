import { boundedCache } from "./bounded-cache.ts";

const hourMs = 3_600_000;
/** The key least recently seen beyond this many starts again. */
const maxKeys = 100_000;

/** Counts by key, in windows of an hour that begin with a key's first count. In this process. */
export interface HourlyCounts {
  /** Counts one more unless there were `most` already; false: the limit is reached and nothing is counted. */
  take(key: string, most: number): boolean;
  /** Seconds until the key's window ends, at least 1. */
  retryAfter(key: string): number;
}

export function countPerHour(): HourlyCounts {
  const counts = boundedCache<string, { used: number }>(maxKeys, { ttl: hourMs });
  return {
    take(key, most) {
      const count = counts.get(key) ?? { used: 0 };
      if (count.used >= most) return false;
      count.used += 1;
      counts.set(key, count, { noUpdateTTL: true });
      return true;
    },
    retryAfter: (key) => Math.max(1, Math.ceil(counts.getRemainingTTL(key) / 1000)),
  };
}
