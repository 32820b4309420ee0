import type { RefreshRejections, UpstreamToken } from "../store/upstream-tokens.ts";
import type { Connection, ConnectionCache } from "./connection-cache.ts";
import type { IssuerOutcomes } from "./issuer-outcomes.ts";
import type { Backoffs, RefreshResult } from "./refresh-failures.ts";
import type { UpstreamTokensDeps } from "./upstream-tokens.ts";

/** Backoff between refreshes that are rejected without a reason, growing. */
const firstBackoffSeconds = 5;
const maxBackoffSeconds = 120;
/** This many rejections over this time count as final. */
const finalRejections = 5;
const finalAfterMs = 10 * 60_000;

/**
 * After several rejections of an expired token over some time, the user is asked to consent again. The row stays, and is retried now and
 * then, until they have. If most connections of the server fail, the server is at fault, and consent would not help.
 */
export async function rejectedAgain(
  deps: Pick<UpstreamTokensDeps, "store" | "logger"> & {
    readonly cache: Pick<ConnectionCache, "drop">;
    readonly issuers: Pick<IssuerOutcomes, "mostFail">;
    readonly backoffs: Backoffs;
    /** Of the lease. */
    readonly owner: string;
  },
  { key, name }: Connection,
  token: UpstreamToken,
  reason: string,
): Promise<RefreshResult> {
  const { store, logger, backoffs } = deps;
  const rejections = await store.upstreamTokens.recordRejection(key, token.version, deps.owner, new Date());
  deps.cache.drop(name);
  const seconds = Math.min(maxBackoffSeconds, firstBackoffSeconds * 2 ** ((rejections?.count ?? 1) - 1));
  const unavailable = { kind: "unavailable", retryAfterSeconds: seconds, reason } as const;
  if (!isFinallyRejected(rejections, Date.now())) return backoffs.begin(name, unavailable, seconds);
  const about = { userId: key.userId, route: key.routeId, issuer: token.issuer, ...rejections };
  if (deps.issuers.mostFail(token.issuer)) {
    logger.warn(
      about,
      "an authorization server rejects most refreshes without a reason: users are not asked to consent again, since it would reject that too",
    );
    return backoffs.begin(name, unavailable, seconds);
  }
  logger.warn(
    about,
    "an authorization server rejects the refreshes of a connection without a reason: the user is asked to consent again",
  );
  return backoffs.begin(name, { kind: "gone", reason }, seconds);
}

/** Whether refreshes of a token have been rejected often and long enough to count as final. @param now ms */
export function isFinallyRejected(rejections: RefreshRejections | undefined, now: number): boolean {
  return (
    rejections !== undefined &&
    rejections.count >= finalRejections &&
    now - rejections.since.getTime() >= finalAfterMs
  );
}
