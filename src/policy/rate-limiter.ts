import type { Route } from "../model/route.ts";
import { boundedCache } from "../util/bounded-cache.ts";

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

/**
 * Creates the limiter. A bucket holds one minute's allowance and refills evenly; a request over the limit takes nothing.
 * Buckets are per process: with N replicas a user gets up to N times the limit.
 *
 * @param maxBuckets beyond this number, the least recently used bucket is dropped, which resets it.
 */
export function createRateLimiter({ maxBuckets = 100_000 }: { maxBuckets?: number } = {}): RateLimiter {
  const buckets = boundedCache<string, Bucket>(maxBuckets);

  function take(
    limit: LimitReached["limit"],
    perMinute: number | undefined,
    { userId, route, now }: RateLimited,
    count: number,
  ): LimitReached | undefined {
    if (perMinute === undefined || count <= 0) return undefined;
    const key = JSON.stringify([limit, route.id, userId]);
    const known = buckets.get(key);
    const elapsed = known ? Math.max(0, now - known.at) : 0;
    const tokens = known ? Math.min(perMinute, known.tokens + (elapsed * perMinute) / minute) : perMinute;
    const left = tokens - count;
    buckets.set(key, { tokens: left < 0 ? tokens : left, at: Math.max(now, known?.at ?? now) });
    if (left >= 0) return undefined;
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
