import { randomUUID } from "node:crypto";
import type { Route } from "../model/route.ts";
import { nextChange } from "../store/notifications/notifications.ts";
import { createPersistence, isDisconnectedSince, putBasis, putUnlessChanged } from "../store/save-token.ts";
import type { RefreshRejections, UpstreamToken } from "../store/upstream-tokens.ts";
import { mayAddEndpoint } from "../upstream-oauth/connection.ts";
import type { RefreshOutcome, TokenSubject } from "../upstream-oauth/upstream-oauth.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { SingleFlight } from "../util/single-flight.ts";
import type { Connection, ConnectionCache } from "./connections.ts";
import { createIssuerLimit, createIssuerOutcomes } from "./issuer-limit.ts";
import type { UpstreamTokensDeps } from "./upstream-tokens.ts";

/** The result of an attempt to get a valid upstream token without the user. */
export type RefreshResult =
  | { readonly kind: "renewed"; readonly connection: Connection }
  /** Final: only a new consent (or sign-in) helps. */
  | { readonly kind: "gone"; readonly reason: string }
  | { readonly kind: "unavailable"; readonly retryAfterSeconds: number; readonly reason: string };

/** Gets new upstream tokens from authorization servers, once per connection at a time over all replicas. */
export interface Refresher {
  /**
   * Refreshes this version, or waits for the replica that does. Continues if the request is canceled.
   * @param rejected the upstream rejects the access token regardless of its expiry; default false
   */
  refresh(
    connection: Connection,
    token: UpstreamToken,
    route: Route,
    rejected?: boolean,
  ): Promise<RefreshResult>;
  /** Obtains a token without consent. */
  obtain(connection: Connection, route: Route, subject: TokenSubject): Promise<RefreshResult>;
  /** The recent failure that the connection is in backoff for, if any. @param now ms */
  backoff(name: string, now: number): Extract<RefreshResult, { kind: "unavailable" | "gone" }> | undefined;
  /** Ends the backoff, since the user has reconnected or disconnected. */
  endBackoff(name: string): void;
  /** Waits for refreshes in progress. */
  close(): Promise<void>;
}

/** Part of the lease for storing the result of a token request, ms. */
const storingMs = 10_000;
/** After a database outage, owners of expired leases have this long to store the only valid refresh token, ms. */
const graceMs = 10_000;
const maxPerIssuer = 10;
/** Backoff between refreshes that are rejected without a reason, growing. */
const firstBackoffSeconds = 5;
const maxBackoffSeconds = 120;
/** This many rejections over this time count as final. */
const finalRejections = 5;
const finalAfterMs = 10 * 60_000;

/** The outcome of a refresh, and the disconnects before it. */
interface Asked {
  readonly outcome: RefreshOutcome;
  readonly disconnects: readonly number[];
}

export function createRefresher(deps: UpstreamTokensDeps & { cache: ConnectionCache }): Refresher {
  const { store, upstreamOAuth, cache, metrics, logger } = deps;
  const limit = createIssuerLimit(maxPerIssuer);
  const issuers = createIssuerOutcomes();
  /**
   * A store outage must not lose a rotated refresh token: during the lease no other replica uses the old one, and after an outage no lease is
   * taken over before its owner had time to store.
   */
  const persistence = createPersistence(logger, "the result of a refresh could not be stored yet");
  const flights = new SingleFlight<RefreshResult>();
  // One owner id for all leases, so that a lease without a confirmation can be taken again; `once` makes this safe.
  const owner = randomUUID();
  let closing = false;
  let noTakeoverUntil = 0;
  const unsubscribe = store.notifications.subscribe((change) => {
    if (change.table === "everything") noTakeoverUntil = performance.now() + graceMs;
  });
  const backoffs = boundedCache<
    string,
    { until: number; renewal: Extract<RefreshResult, { kind: "unavailable" | "gone" }> }
  >(10_000);

  function once(name: string, run: () => Promise<RefreshResult>): Promise<RefreshResult> {
    return flights.run(name, run);
  }

  function backOff(
    name: string,
    renewal: Extract<RefreshResult, { kind: "unavailable" | "gone" }>,
    seconds: number,
  ) {
    backoffs.set(name, { until: Date.now() + seconds * 1000, renewal });
    return renewal;
  }

  async function reload({ key, name }: Connection): Promise<Connection> {
    cache.drop(name);
    return cache.load(key, name);
  }

  async function refreshOnce(
    connection: Connection,
    token: UpstreamToken,
    route: Route,
    rejected: boolean,
  ): Promise<RefreshResult> {
    const waitMs = deps.routes().config.upstreamOAuth.timeoutMs + 1000;
    // Limited by time, not by attempts: other changes of the connection end the wait too.
    for (const giveUpAt = performance.now() + 2 * waitMs; performance.now() < giveUpAt; ) {
      const change = nextChange(
        store.notifications,
        (one) => one.table === "upstream_token" && one.key === connection.name,
        waitMs,
      );
      try {
        const asked = await limit(token.issuer, () => askLeased(connection, token, route));
        if (asked) return await conclude(connection, token, route, asked, rejected);
        if (closing) break;
        const now = await reload(connection);
        if (now.token?.version !== token.version) return toRenewal(now);
        // Another replica holds the lease, and notifies all when it is done.
        await change.arrived;
      } finally {
        change.stop();
      }
      const then = await reload(connection);
      if (then.token?.version !== token.version) return toRenewal(then);
    }
    return { kind: "unavailable", retryAfterSeconds: 1, reason: "refresh_under_way_elsewhere" };
  }

  /** Takes the lease after the queue, so that it does not expire in it. Undefined: another replica has it. */
  async function askLeased(
    { key }: Connection,
    token: UpstreamToken,
    route: Route,
  ): Promise<Asked | undefined> {
    // The lease would outlive this process.
    if (closing) return undefined;
    const disconnects = await store.upstreamTokens.disconnects(key);
    // The longest call: two client authentication methods, each with a retry for a DPoP nonce.
    const callMs = 2 * deps.routes().config.upstreamOAuth.timeoutMs;
    const until = new Date(Date.now() + callMs + storingMs);
    const mayTakeOver = store.notifications.healthy() && performance.now() > noTakeoverUntil;
    if (!(await store.upstreamTokens.takeLease(key, token.version, owner, until, mayTakeOver))) {
      return undefined;
    }
    const outcome = await upstreamOAuth.refresh(token, route);
    metrics.upstreamTokenRefreshes.inc({ outcome: outcome.kind });
    return { outcome, disconnects };
  }

  async function conclude(
    connection: Connection,
    token: UpstreamToken,
    route: Route,
    { outcome, disconnects }: Asked,
    rejected: boolean,
  ): Promise<RefreshResult> {
    const { key, name } = connection;
    const about = { ...key, issuer: token.issuer, clientId: token.clientId };
    switch (outcome.kind) {
      case "refreshed": {
        backoffs.delete(name);
        issuers.record(token.issuer, name, "succeeded");
        const version = await persistence
          .write(() =>
            store.upstreamTokens.replace(outcome.token, token.version, owner, {
              action: "upstream_token.refreshed",
              ...about,
            }),
          )
          .catch(async (error: unknown) => {
            await revokeUnused({ ...token, ...outcome.token }, route);
            throw error;
          });
        const now = await reload(connection);
        const isKept = version !== undefined || now.token?.accessToken === outcome.token.accessToken;
        // A user who has connected again since has a different grant at the server.
        const isUnused =
          !isKept &&
          (!now.token || isDisconnectedSince(disconnects, await store.upstreamTokens.disconnects(key)));
        if (isUnused) await revokeUnused({ ...token, ...outcome.token }, route);
        return toRenewal(now);
      }
      case "rejected": {
        await persistence.write(() =>
          store.upstreamTokens.deleteVersion(key, token.version, {
            action: "upstream_token.rejected",
            ...about,
            reason: outcome.reason,
          }),
        );
        // A newer version may have been stored since, which is valid.
        return toRenewal(await reload(connection), outcome.reason);
      }
      case "unavailable": {
        issuers.record(token.issuer, name, "failed");
        // Counted before, so the token had expired then.
        const isLive = !rejected && !token.rejections && (token.expiresAt?.getTime() ?? 0) > Date.now();
        if (outcome.unexplained && !isLive) return rejectedAgain(connection, token, outcome.reason);
        backOff(name, outcome, outcome.retryAfterSeconds);
        await store.upstreamTokens.releaseLease(key, token.version, owner);
        return outcome;
      }
    }
  }

  /**
   * After several rejections of an expired token over some time, the user is asked to consent again. The row stays, and is retried now and
   * then, until they have. If most connections of the server fail, the server is at fault, and consent would not help.
   */
  async function rejectedAgain(
    { key, name }: Connection,
    token: UpstreamToken,
    reason: string,
  ): Promise<RefreshResult> {
    const rejections = await store.upstreamTokens.recordRejection(key, token.version, owner, new Date());
    cache.drop(name);
    const seconds = Math.min(maxBackoffSeconds, firstBackoffSeconds * 2 ** ((rejections?.count ?? 1) - 1));
    const unavailable = { kind: "unavailable", retryAfterSeconds: seconds, reason } as const;
    if (!isFinallyRejected(rejections, Date.now())) return backOff(name, unavailable, seconds);
    const about = { userId: key.userId, route: key.routeId, issuer: token.issuer, ...rejections };
    if (issuers.mostFail(token.issuer)) {
      logger.warn(
        about,
        "an authorization server rejects most refreshes without a reason: users are not asked to consent again, since it would reject that too",
      );
      return backOff(name, unavailable, seconds);
    }
    logger.warn(
      about,
      "an authorization server rejects the refreshes of a connection without a reason: the user is asked to consent again",
    );
    return backOff(name, { kind: "gone", reason }, seconds);
  }

  /** Revokes a new token if the connection ended during its refresh: it would stay valid at the server. */
  async function revokeUnused(token: UpstreamToken, route: Route): Promise<void> {
    const { userId, routeId, upstream, issuer } = token;
    try {
      if (!(await upstreamOAuth.revoke(token, route))) return;
      await store.audit({ action: "upstream_token.revoked", userId, routeId, upstream, issuer });
    } catch (error) {
      logger.warn({ err: error, userId, route: routeId }, "an unused token was not revoked");
    }
  }

  async function obtainOnce(
    connection: Connection,
    route: Route,
    subject: TokenSubject,
  ): Promise<RefreshResult> {
    if (!connection.token && !(await mayAddEndpoint(store, connection.key, route)))
      return { kind: "gone", reason: "too_many_endpoints" };
    const basis = await putBasis(store, connection.key);
    const outcome = await limit(route.id, () => upstreamOAuth.grant(route, subject));
    metrics.upstreamTokenRefreshes.inc({ outcome: outcome.kind });
    if (outcome.kind === "unavailable") return backOff(connection.name, outcome, outcome.retryAfterSeconds);
    // Signing in again helps at once.
    if (outcome.kind === "rejected" && outcome.reason === "sign_in_token_missing")
      return { kind: "gone", reason: outcome.reason };
    if (outcome.kind === "rejected")
      return backOff(connection.name, { kind: "gone", reason: outcome.reason }, 10);
    backoffs.delete(connection.name);
    const token = { ...outcome.token, ...connection.key };
    const { issuer, clientId } = token;
    const audit = { action: "upstream_token.obtained", ...connection.key, issuer, clientId } as const;
    const isStored = await persistence.write((late) =>
      putUnlessChanged(store, token, audit, { basis, late }),
    );
    const at = new Date();
    if (!isStored) await revokeUnused({ ...token, version: 0, connectedAt: at, updatedAt: at }, route);
    return toRenewal(await reload(connection));
  }

  return {
    refresh: (connection, token, route, rejected = false) =>
      once(connection.name, () => refreshOnce(connection, token, route, rejected)),
    obtain: (connection, route, subject) =>
      once(connection.name, () => obtainOnce(connection, route, subject)),
    backoff(name, now) {
      const found = backoffs.get(name);
      if (!found) return undefined;
      if (found.until > now) {
        const { renewal } = found;
        if (renewal.kind === "gone") return renewal;
        return { ...renewal, retryAfterSeconds: Math.ceil((found.until - now) / 1000) };
      }
      backoffs.delete(name);
      return undefined;
    },
    endBackoff: (name) => backoffs.delete(name),
    async close() {
      closing = true;
      await Promise.allSettled([persistence.close(), flights.settled()]);
      unsubscribe();
    },
  };
}

/** Whether refreshes of a token have been rejected often and long enough to count as final. @param now ms */
export function isFinallyRejected(rejections: RefreshRejections | undefined, now: number): boolean {
  return (
    rejections !== undefined &&
    rejections.count >= finalRejections &&
    now - rejections.since.getTime() >= finalAfterMs
  );
}

function toRenewal(connection: Connection, reason = "disconnected"): RefreshResult {
  return connection.token ? { kind: "renewed", connection } : { kind: "gone", reason };
}
