import { randomUUID } from "node:crypto";
import type { Route } from "../model/route.ts";
import { nextChange } from "../store/notifications/notifications.ts";
import {
  createPersistence,
  isDisconnectedSince,
  type Persistence,
  putBasis,
  putUnlessChanged,
} from "../store/save-token.ts";
import type { RefreshRejections, UpstreamToken } from "../store/upstream-tokens.ts";
import { mayAddEndpoint } from "../upstream-oauth/endpoint-connection.ts";
import type { RefreshOutcome, TokenSubject } from "../upstream-oauth/upstream-oauth.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { SingleFlight } from "../util/single-flight.ts";
import type { Connection, ConnectionCache } from "./connection-cache.ts";
import { createIssuerLimit, createIssuerOutcomes } from "./issuer-limit.ts";
import type { UpstreamTokensDeps } from "./upstream-tokens.ts";

/** The result of an attempt to get a valid upstream token without the user. */
export type RefreshResult =
  | { readonly kind: "refreshed"; readonly connection: Connection }
  /** Final: only a new consent (or sign-in) helps. */
  | { readonly kind: "gone"; readonly reason: string }
  | { readonly kind: "unavailable"; readonly retryAfterSeconds: number; readonly reason: string };

/** Why there is no token. */
type Failure = Exclude<RefreshResult, { kind: "refreshed" }>;

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

/** Gets new upstream tokens from authorization servers, once per connection at a time over all replicas. */
export class Refresher {
  readonly #deps: UpstreamTokensDeps;
  readonly #store: UpstreamTokensDeps["store"];
  readonly #cache: ConnectionCache;
  readonly #limit = createIssuerLimit(maxPerIssuer);
  readonly #issuers = createIssuerOutcomes();
  readonly #flights = new SingleFlight<RefreshResult>();
  /**
   * A store outage must not lose a rotated refresh token: during the lease no other replica uses the old one, and after an outage no lease is
   * taken over before its owner had time to store.
   */
  readonly #persistence: Persistence;
  /** One owner id for all leases, so that a lease without a confirmation can be taken again; `#flights` makes this safe. */
  readonly #owner = randomUUID();
  readonly #backoffs = boundedCache<string, { readonly until: number; readonly failure: Failure }>(10_000);
  readonly #unsubscribe: () => void;
  #closing = false;
  #noTakeoverUntil = 0;

  constructor(deps: UpstreamTokensDeps & { cache: ConnectionCache }) {
    this.#deps = deps;
    this.#store = deps.store;
    this.#cache = deps.cache;
    this.#persistence = createPersistence(deps.logger, "the result of a refresh could not be stored yet");
    this.#unsubscribe = deps.store.notifications.subscribe((change) => {
      if (change.table === "everything") this.#noTakeoverUntil = performance.now() + graceMs;
    });
  }

  /**
   * Refreshes this version, or waits for the replica that does. Continues if the request is canceled.
   * @param rejected the upstream rejects the access token regardless of its expiry; default false
   */
  refresh(
    connection: Connection,
    token: UpstreamToken,
    route: Route,
    rejected = false,
  ): Promise<RefreshResult> {
    return this.#flights.run(connection.name, () => this.#refreshOnce(connection, token, route, rejected));
  }

  /** Obtains a token without consent. */
  obtain(connection: Connection, route: Route, subject: TokenSubject): Promise<RefreshResult> {
    return this.#flights.run(connection.name, () => this.#obtainOnce(connection, route, subject));
  }

  /** The recent failure that the connection is in backoff for, if any. @param now ms */
  backoff(name: string, now: number): Failure | undefined {
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

  /** Ends the backoff, since the user has reconnected or disconnected. */
  endBackoff(name: string): void {
    this.#backoffs.delete(name);
  }

  /** Waits for refreshes in progress. */
  async close(): Promise<void> {
    this.#closing = true;
    await Promise.allSettled([this.#persistence.close(), this.#flights.settled()]);
    this.#unsubscribe();
  }

  #backOff(name: string, failure: Failure, seconds: number): RefreshResult {
    this.#backoffs.set(name, { until: Date.now() + seconds * 1000, failure });
    return failure;
  }

  async #reload({ key, name }: Connection): Promise<Connection> {
    this.#cache.drop(name);
    return this.#cache.load(key, name);
  }

  async #refreshOnce(
    connection: Connection,
    token: UpstreamToken,
    route: Route,
    rejected: boolean,
  ): Promise<RefreshResult> {
    const waitMs = this.#deps.routes().config.upstreamOAuth.timeoutMs + 1000;
    // Limited by time, not by attempts: other changes of the connection end the wait too.
    for (const giveUpAt = performance.now() + 2 * waitMs; performance.now() < giveUpAt; ) {
      const change = nextChange(
        this.#store.notifications,
        (one) => one.table === "upstream_token" && one.key === connection.name,
        waitMs,
      );
      try {
        const asked = await this.#limit(token.issuer, () => this.#askLeased(connection, token, route));
        if (asked) return await this.#conclude(connection, token, route, asked, rejected);
        if (this.#closing) break;
        const now = await this.#reload(connection);
        if (now.token?.version !== token.version) return toResult(now);
        // Another replica holds the lease, and notifies all when it is done.
        await change.arrived;
      } finally {
        change.stop();
      }
      const then = await this.#reload(connection);
      if (then.token?.version !== token.version) return toResult(then);
    }
    return { kind: "unavailable", retryAfterSeconds: 1, reason: "refresh_under_way_elsewhere" };
  }

  /** Takes the lease after the queue, so that it does not expire in it. Undefined: another replica has it. */
  async #askLeased({ key }: Connection, token: UpstreamToken, route: Route): Promise<Asked | undefined> {
    // The lease would outlive this process.
    if (this.#closing) return undefined;
    const disconnects = await this.#store.upstreamTokens.disconnects(key);
    // The longest call: two client authentication methods, each with a retry for a DPoP nonce.
    const callMs = 2 * this.#deps.routes().config.upstreamOAuth.timeoutMs;
    const until = new Date(Date.now() + callMs + storingMs);
    const mayTakeOver = this.#store.notifications.healthy() && performance.now() > this.#noTakeoverUntil;
    if (!(await this.#store.upstreamTokens.takeLease(key, token.version, this.#owner, until, mayTakeOver))) {
      return undefined;
    }
    const outcome = await this.#deps.upstreamOAuth.refresh(token, route);
    this.#deps.metrics.upstreamTokenRefreshes.inc({ outcome: outcome.kind });
    return { outcome, disconnects };
  }

  async #conclude(
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
        this.#backoffs.delete(name);
        this.#issuers.record(token.issuer, name, "succeeded");
        const version = await this.#persistence
          .write(() =>
            this.#store.upstreamTokens.replace(outcome.token, token.version, this.#owner, {
              action: "upstream_token.refreshed",
              ...about,
            }),
          )
          .catch(async (error: unknown) => {
            await this.#revokeUnused({ ...token, ...outcome.token }, route);
            throw error;
          });
        const now = await this.#reload(connection);
        const isKept = version !== undefined || now.token?.accessToken === outcome.token.accessToken;
        // A user who has connected again since has a different grant at the server.
        const isUnused =
          !isKept &&
          (!now.token || isDisconnectedSince(disconnects, await this.#store.upstreamTokens.disconnects(key)));
        if (isUnused) await this.#revokeUnused({ ...token, ...outcome.token }, route);
        return toResult(now);
      }
      case "rejected": {
        await this.#persistence.write(() =>
          this.#store.upstreamTokens.deleteVersion(key, token.version, {
            action: "upstream_token.rejected",
            ...about,
            reason: outcome.reason,
          }),
        );
        // A newer version may have been stored since, which is valid.
        return toResult(await this.#reload(connection), outcome.reason);
      }
      case "unavailable": {
        this.#issuers.record(token.issuer, name, "failed");
        // Counted before, so the token had expired then.
        const isLive = !rejected && !token.rejections && (token.expiresAt?.getTime() ?? 0) > Date.now();
        if (outcome.unexplained && !isLive) return this.#rejectedAgain(connection, token, outcome.reason);
        this.#backOff(name, outcome, outcome.retryAfterSeconds);
        await this.#store.upstreamTokens.releaseLease(key, token.version, this.#owner);
        return outcome;
      }
    }
  }

  /**
   * After several rejections of an expired token over some time, the user is asked to consent again. The row stays, and is retried now and
   * then, until they have. If most connections of the server fail, the server is at fault, and consent would not help.
   */
  async #rejectedAgain(
    { key, name }: Connection,
    token: UpstreamToken,
    reason: string,
  ): Promise<RefreshResult> {
    const rejections = await this.#store.upstreamTokens.recordRejection(
      key,
      token.version,
      this.#owner,
      new Date(),
    );
    this.#cache.drop(name);
    const seconds = Math.min(maxBackoffSeconds, firstBackoffSeconds * 2 ** ((rejections?.count ?? 1) - 1));
    const unavailable = { kind: "unavailable", retryAfterSeconds: seconds, reason } as const;
    if (!isFinallyRejected(rejections, Date.now())) return this.#backOff(name, unavailable, seconds);
    const about = { userId: key.userId, route: key.routeId, issuer: token.issuer, ...rejections };
    if (this.#issuers.mostFail(token.issuer)) {
      this.#deps.logger.warn(
        about,
        "an authorization server rejects most refreshes without a reason: users are not asked to consent again, since it would reject that too",
      );
      return this.#backOff(name, unavailable, seconds);
    }
    this.#deps.logger.warn(
      about,
      "an authorization server rejects the refreshes of a connection without a reason: the user is asked to consent again",
    );
    return this.#backOff(name, { kind: "gone", reason }, seconds);
  }

  /** Revokes a new token if the connection ended during its refresh: it would stay valid at the server. */
  async #revokeUnused(token: UpstreamToken, route: Route): Promise<void> {
    const { userId, routeId, upstream, issuer } = token;
    try {
      if (!(await this.#deps.upstreamOAuth.revoke(token, route))) return;
      await this.#store.audit({ action: "upstream_token.revoked", userId, routeId, upstream, issuer });
    } catch (error) {
      this.#deps.logger.warn({ err: error, userId, route: routeId }, "an unused token was not revoked");
    }
  }

  async #obtainOnce(connection: Connection, route: Route, subject: TokenSubject): Promise<RefreshResult> {
    if (!connection.token && !(await mayAddEndpoint(this.#store, connection.key, route)))
      return { kind: "gone", reason: "too_many_endpoints" };
    const basis = await putBasis(this.#store, connection.key);
    const outcome = await this.#limit(route.id, () => this.#deps.upstreamOAuth.grant(route, subject));
    this.#deps.metrics.upstreamTokenRefreshes.inc({ outcome: outcome.kind });
    if (outcome.kind === "unavailable")
      return this.#backOff(connection.name, outcome, outcome.retryAfterSeconds);
    // Signing in again helps at once.
    if (outcome.kind === "rejected" && outcome.reason === "sign_in_token_missing")
      return { kind: "gone", reason: outcome.reason };
    if (outcome.kind === "rejected")
      return this.#backOff(connection.name, { kind: "gone", reason: outcome.reason }, 10);
    this.#backoffs.delete(connection.name);
    const token = { ...outcome.token, ...connection.key };
    const { issuer, clientId } = token;
    const audit = { action: "upstream_token.obtained", ...connection.key, issuer, clientId } as const;
    const isStored = await this.#persistence.write((late) =>
      putUnlessChanged(this.#store, token, audit, { basis, late }),
    );
    const at = new Date();
    if (!isStored) await this.#revokeUnused({ ...token, version: 0, connectedAt: at, updatedAt: at }, route);
    return toResult(await this.#reload(connection));
  }
}

/** Whether refreshes of a token have been rejected often and long enough to count as final. @param now ms */
export function isFinallyRejected(rejections: RefreshRejections | undefined, now: number): boolean {
  return (
    rejections !== undefined &&
    rejections.count >= finalRejections &&
    now - rejections.since.getTime() >= finalAfterMs
  );
}

function toResult(connection: Connection, reason = "disconnected"): RefreshResult {
  return connection.token ? { kind: "refreshed", connection } : { kind: "gone", reason };
}
