import type { Route } from "../model/route.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import type { SharedLimits } from "../workers/worker.ts";

/** User, route, and time (milliseconds since the epoch) of a request. */
export interface RateLimited {
  readonly userId: string;
  readonly route: Pick<Route, "id" | "rateLimit">;
  readonly now: number;
}

/** Respond with 429 and `Retry-After`. */
export interface LimitReached {
  readonly limit: "requests" | "tool_calls";
  /** Seconds, at least 1. */
  readonly retryAfterSeconds: number;
}

/** Token buckets per user and route. Returns `undefined` below the limit. */
export interface RateLimiter {
  takeRequest(asked: RateLimited): LimitReached | undefined;
  /** Takes all `count` calls of a body, or none. */
  takeToolCalls(asked: RateLimited & { readonly count: number }): LimitReached | undefined;
}

interface Bucket {
  tokens: number;
  at: number;
}

const minute = 60_000;
/** How often workers tell each other what they have allowed, ms: a user can exceed a limit by what arrives in between. */
const shareEveryMs = 50;

/**
 * Creates the limiter. A bucket holds one minute's allowance and refills evenly; a request over the limit takes nothing.
 * Buckets hold for one replica, with all its workers: with N replicas a user gets up to N times the limit.
 *
 * @param maxBuckets beyond this number, the least recently used bucket is dropped, which resets it.
 * @param shared the other workers of this replica
 */
export function createRateLimiter({
  maxBuckets = 100_000,
  shared,
}: {
  readonly maxBuckets?: number;
  readonly shared?: SharedLimits | undefined;
} = {}): RateLimiter {
  const buckets = boundedCache<string, Bucket>(maxBuckets);
  const unshared = new Map<string, [amount: number, perMinute: number]>();
  let sharing = false;

  shared?.onTaken((taken) => {
    const now = Date.now();
    for (const [key, [amount, perMinute]] of Object.entries(taken)) {
      const tokens = refilled(buckets.get(key), perMinute, now);
      // All workers may have allowed it at the same moment.
      buckets.set(key, { tokens: Math.max(-perMinute * shared.others, tokens - amount), at: now });
    }
  });

  function share(key: string, amount: number, perMinute: number): void {
    if (shared === undefined) return;
    unshared.set(key, [(unshared.get(key)?.[0] ?? 0) + amount, perMinute]);
    if (sharing) return;
    sharing = true;
    setTimeout(() => {
      sharing = false;
      shared.publish(Object.fromEntries(unshared));
      unshared.clear();
    }, shareEveryMs).unref();
  }

  function take(
    limit: LimitReached["limit"],
    perMinute: number | undefined,
    { userId, route, now }: RateLimited,
    count: number,
  ): LimitReached | undefined {
    if (perMinute === undefined || count <= 0) return undefined;
    const key = JSON.stringify([limit, route.id, userId]);
    const known = buckets.get(key);
    const tokens = refilled(known, perMinute, now);
    const left = tokens - count;
    buckets.set(key, { tokens: left < 0 ? tokens : left, at: Math.max(now, known?.at ?? now) });
    if (left >= 0) {
      share(key, count, perMinute);
      return undefined;
    }
    const seconds = perMinute > 0 ? Math.ceil((-left / perMinute) * 60) : 60;
    // More calls at once than one minute allows never fit: any value is as good as one minute.
    return { limit, retryAfterSeconds: Math.min(60, Math.max(1, seconds)) };
  }

  return {
    takeRequest: (asked) => take("requests", asked.route.rateLimit?.requestsPerMinute, asked, 1),
    takeToolCalls: (asked) =>
      take("tool_calls", asked.route.rateLimit?.toolCallsPerMinute, asked, asked.count),
  };
}

function refilled(known: Bucket | undefined, perMinute: number, now: number): number {
  if (known === undefined) return perMinute;
  return Math.min(perMinute, known.tokens + (Math.max(0, now - known.at) * perMinute) / minute);
}
