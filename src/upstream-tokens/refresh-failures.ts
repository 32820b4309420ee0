import { boundedCache } from "../util/bounded-cache.ts";
import type { Connection } from "./connection-cache.ts";

/** The result of an attempt to get a valid upstream token without the user. */
export type RefreshResult =
  | { readonly kind: "refreshed"; readonly connection: Connection }
  /** Final: only a new consent (or sign-in) helps. */
  | { readonly kind: "gone"; readonly reason: string }
  | { readonly kind: "unavailable"; readonly retryAfterSeconds: number; readonly reason: string };

/** Why there is no token. */
export type Failure = Exclude<RefreshResult, { kind: "refreshed" }>;

/** Longest `Retry-After` for a connection in the queue; while its authorization server fails, s. */
const longest = 60;
const longestFailing = 30;

/**
 * The failure of a connection that waits for its refresh. Spread, so that those who wait come back one after another, when their turn has
 * come.
 * @param seconds the expected wait
 * @param failure the reason, if the authorization server fails
 */
export function waiting(seconds: number, reason: string, failure?: string): Failure {
  const most = failure === undefined ? longest : longestFailing;
  const spread = seconds * (1 + Math.random() / 4) + Math.random();
  const bound = most * (1 - Math.random() / 4);
  const retryAfterSeconds = Math.max(1, Math.ceil(Math.min(spread, bound)));
  return { kind: "unavailable", retryAfterSeconds, reason: failure ?? reason };
}

/** Connections whose refresh has failed lately, and is not tried again before some time. */
export class Backoffs {
  readonly #backoffs = boundedCache<string, { readonly until: number; readonly failure: Failure }>(20_000);

  /** The recent failure that the connection is in backoff for, if any. @param now ms */
  get(name: string, now: number): Failure | undefined {
    const found = this.#backoffs.get(name);
    if (!found) return undefined;
    const { until, failure } = found;
    if (until > now) {
      if (failure.kind === "gone") return failure;
      return { ...failure, retryAfterSeconds: Math.ceil((until - now) / 1000) };
    }
    this.#backoffs.delete(name);
    return undefined;
  }

  /** Begins a backoff; returns the failure for those who wait. */
  begin(name: string, failure: Failure, seconds: number): Failure {
    // Those that failed together must not come back together.
    const spread = failure.kind === "unavailable" ? seconds * (1 + Math.random() / 4) : seconds;
    this.#backoffs.set(name, { until: Date.now() + spread * 1000, failure });
    return failure.kind === "unavailable" ? { ...failure, retryAfterSeconds: Math.ceil(spread) } : failure;
  }

  end(name: string): void {
    this.#backoffs.delete(name);
  }
}
