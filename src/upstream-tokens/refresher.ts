import { randomUUID } from "node:crypto";
import { countWorkers } from "../config/workers.ts";
import type { Route } from "../model/route.ts";
import type { Change } from "../store/notifications/notifications.ts";
import {
  createPersistence,
  isDisconnectedSince,
  type Persistence,
  putBasis,
  putUnlessChanged,
} from "../store/save-token.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import { mayAddEndpoint } from "../upstream-oauth/endpoint-connection.ts";
import { longestRefreshMs } from "../upstream-oauth/refresh.ts";
import type {
  NonInteractiveOutcome,
  RefreshOutcome,
  TokenSubject,
} from "../upstream-oauth/upstream-oauth.ts";
import { SingleFlight } from "../util/single-flight.ts";
import type { Connection, ConnectionCache, ConnectionWrite } from "./connection-cache.ts";
import { createIssuerOutcomes } from "./issuer-outcomes.ts";
import { Backoffs, type Failure, type RefreshResult, waiting } from "./refresh-failures.ts";
import { pacedBy, RefreshQueue } from "./refresh-queue.ts";
import { rejectedAgain } from "./unexplained-rejections.ts";
import type { UpstreamTokensDeps } from "./upstream-tokens.ts";

/** Part of the lease for storing the result of a token request, ms. */
const storingMs = 10_000;
/** After a database outage, owners of expired leases have this long to store the only valid refresh token, ms. */
const graceMs = 10_000;
const serverOf = ({ issuer, clientId }: UpstreamToken) => `${issuer} ${clientId}`;

/** A result; `changed`: the connection was changed elsewhere while it waited, and has to be read. */
type Flight = RefreshResult | { readonly kind: "changed" };

/** Who waits for a refresh. */
interface Waiting {
  readonly ahead?: boolean;
  readonly isAwaited?: () => boolean;
}

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
  readonly #queue: RefreshQueue;
  readonly #issuers = createIssuerOutcomes();
  readonly #flights = new SingleFlight<Flight>();
  /** Connections that another replica refreshes now; called when it is done. */
  readonly #elsewhere = new Map<string, () => void>();
  /**
   * A store outage must not lose a rotated refresh token: during the lease no other replica uses the old one, and after an outage no lease is
   * taken over before its owner had time to store.
   */
  readonly #persistence: Persistence;
  /** One owner id for all leases, so that a lease without a confirmation can be taken again; `#flights` makes this safe. */
  readonly #owner = randomUUID();
  readonly #backoffs = new Backoffs();
  readonly #unsubscribe: () => void;
  #closing = false;
  #noTakeoverUntil = 0;

  constructor(deps: UpstreamTokensDeps & { cache: ConnectionCache }) {
    this.#deps = deps;
    this.#store = deps.store;
    this.#cache = deps.cache;
    this.#persistence = createPersistence(deps.logger, "the result of a refresh could not be stored yet");
    this.#queue = new RefreshQueue({
      onSize: (size) => deps.metrics.upstreamTokenRefreshesWaiting.set(size),
      workers: countWorkers(deps.routes().config.workers),
    });
    this.#unsubscribe = deps.store.notifications.subscribe((change) => this.#onChange(change));
  }

  #onChange(change: Change): void {
    if (change.table === "upstream_token") {
      this.#elsewhere.get(change.key)?.();
      this.#queue.changed(change.key, change.version);
    } else if (change.table === "everything") {
      this.#noTakeoverUntil = performance.now() + graceMs;
      for (const done of this.#elsewhere.values()) done();
    }
  }

  /**
   * Refreshes this version, or waits for the replica that does. Continues if the request is canceled.
   * @param options.rejected the upstream rejects the access token regardless of its expiry; default false
   * @param options.ahead nobody waits for it; default false
   * @param options.isAwaited asked at the end; if false, the connection is not read when another replica has refreshed it, and the result
   * means nothing; default true
   */
  refresh(
    connection: Connection,
    token: UpstreamToken,
    route: Route,
    options: Waiting & { readonly rejected?: boolean } = {},
  ): Promise<RefreshResult> {
    const { rejected = false, ahead = false } = options;
    return this.#join(connection, options, () =>
      this.#refreshOnce(connection, token, route, { rejected, ahead }),
    );
  }

  /** Obtains a token without consent. @param options as in `refresh` */
  obtain(
    connection: Connection,
    route: Route,
    subject: TokenSubject,
    options: Waiting = {},
  ): Promise<RefreshResult> {
    const { ahead = false } = options;
    return this.#join(connection, options, () => this.#obtainOnce(connection, route, subject, ahead));
  }

  async #join(
    { key, name, token }: Connection,
    { ahead = false, isAwaited = () => true }: Waiting,
    start: () => Promise<Flight>,
  ): Promise<RefreshResult> {
    const flight = this.#flights.run(name, start);
    if (!ahead) this.#queue.hurry(name);
    const result = await flight;
    if (result.kind !== "changed") return result;
    // Otherwise every replica would read each connection that another has refreshed.
    if (!isAwaited()) return waiting(1, "refresh_waiting");
    const now = await this.#cache.load(key, name);
    return now.token?.version === token?.version ? waiting(1, "refresh_waiting") : toResult(now);
  }

  /**
   * The failure of a connection whose turn in the queue comes too late for a check; undefined: a check may wait for it. Does nothing else,
   * since most checks end here while thousands of tokens expire together.
   */
  tooLate(name: string): Failure | undefined {
    const wait = this.#queue.waitOf(name);
    if (!wait || wait.ms <= this.#deps.routes().config.check.deadlineMs / 2) return undefined;
    return waiting(wait.ms / 1000, "refresh_waiting", wait.failure);
  }

  /** The recent failure that the connection is in backoff for, if any. @param now ms */
  backoff(name: string, now: number): Failure | undefined {
    return this.#backoffs.get(name, now);
  }

  /** Ends the backoff, since the user has reconnected or disconnected. */
  endBackoff(name: string): void {
    this.#backoffs.end(name);
  }

  /** Waits for refreshes in progress. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#queue.close();
    for (const done of this.#elsewhere.values()) done();
    await Promise.allSettled([this.#persistence.close(), this.#flights.settled()]);
    this.#unsubscribe();
  }

  async #reload({ key, name }: Connection): Promise<Connection> {
    this.#cache.drop(name);
    return this.#cache.load(key, name);
  }

  async #refreshOnce(
    connection: Connection,
    token: UpstreamToken,
    route: Route,
    { rejected, ahead }: { readonly rejected: boolean; readonly ahead: boolean },
  ): Promise<Flight> {
    const { name } = connection;
    const write = this.#cache.write(connection);
    const waitMs = this.#deps.routes().config.upstreamOAuth.timeoutMs + 1000;
    const place = { server: serverOf(token), name, version: token.version, urgent: !ahead };
    let giveUpAt = Number.POSITIVE_INFINITY;
    try {
      // Limited by time, not by attempts: other changes of the connection end the wait too.
      while (performance.now() < giveUpAt) {
        const elsewhere = Promise.withResolvers<void>();
        // What has begun ends first: its result is stored before the next one begins.
        const result = await this.#queue.run(place, async () => {
          this.#elsewhere.set(name, elsewhere.resolve);
          giveUpAt = Math.min(giveUpAt, performance.now() + 2 * waitMs);
          const asked = await this.#askLeased(connection, token, route);
          return asked && this.#conclude(connection, token, route, { ...asked, rejected, write });
        });
        if (result === "left" && !this.#closing) return { kind: "changed" };
        if (result === "full") return waiting(Number.POSITIVE_INFINITY, "too_many_refreshes");
        if (result === "left" || this.#closing) break;
        if (result) return result;
        const now = await this.#reload(connection);
        if (now.token?.version !== token.version) return toResult(now);
        // Another replica holds the lease, and notifies all when it is done; unless it has died.
        const timer = setTimeout(elsewhere.resolve, waitMs);
        await elsewhere.promise;
        clearTimeout(timer);
        const then = await this.#reload(connection);
        if (then.token?.version !== token.version) return toResult(then);
      }
      return waiting(1, "refresh_under_way_elsewhere");
    } finally {
      write.end();
      this.#elsewhere.delete(name);
    }
  }

  /** Takes the lease after the queue, so that it does not expire in it. Undefined: another replica has it. */
  async #askLeased({ key }: Connection, token: UpstreamToken, route: Route): Promise<Asked | undefined> {
    // The lease would outlive this process.
    if (this.#closing) return undefined;
    const callMs = longestRefreshMs(this.#deps.routes().config.upstreamOAuth.timeoutMs);
    const until = new Date(Date.now() + callMs + storingMs);
    const mayTakeOver = this.#store.notifications.healthy() && performance.now() > this.#noTakeoverUntil;
    const { upstreamTokens } = this.#store;
    const disconnects = await upstreamTokens.takeLease(key, token.version, this.#owner, until, mayTakeOver);
    if (!disconnects) return undefined;
    const outcome = await this.#paced(serverOf(token), () => this.#deps.upstreamOAuth.refresh(token, route));
    this.#deps.metrics.upstreamTokenRefreshes.inc({ outcome: outcome.kind });
    return { outcome, disconnects };
  }

  /** Reports the token request to the queue, which adapts its pace. */
  async #paced<T extends RefreshOutcome | NonInteractiveOutcome>(
    server: string,
    ask: () => Promise<T>,
  ): Promise<T> {
    const mayTakeMs = this.#deps.routes().config.upstreamOAuth.timeoutMs;
    const startedAt = performance.now();
    const outcome = await ask();
    this.#queue.record(server, pacedBy(outcome, { tookMs: performance.now() - startedAt, mayTakeMs }));
    return outcome;
  }

  async #conclude(
    connection: Connection,
    token: UpstreamToken,
    route: Route,
    {
      outcome,
      disconnects,
      rejected,
      write,
    }: Asked & {
      readonly rejected: boolean;
      readonly write: ConnectionWrite;
    },
  ): Promise<RefreshResult> {
    const { key, name } = connection;
    const about = { ...key, issuer: token.issuer, clientId: token.clientId };
    switch (outcome.kind) {
      case "refreshed": {
        this.#backoffs.end(name);
        this.#issuers.record(token.issuer, name, "succeeded");
        const stored = await this.#persistence
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
        const known =
          stored && write.written({ ...token, ...outcome.token, ...stored, rejections: undefined });
        if (known) return toResult(known);
        const now = await this.#reload(connection);
        const isKept = stored !== undefined || now.token?.accessToken === outcome.token.accessToken;
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
        if (outcome.unexplained && !isLive) {
          const parts = {
            ...this.#deps,
            cache: this.#cache,
            issuers: this.#issuers,
            backoffs: this.#backoffs,
          };
          return rejectedAgain({ ...parts, owner: this.#owner }, connection, token, outcome.reason);
        }
        const failure = this.#backoffs.begin(name, outcome, outcome.retryAfterSeconds);
        await this.#store.upstreamTokens.releaseLease(key, token.version, this.#owner);
        return failure;
      }
    }
  }

  /** Revokes a new token if the connection ended during its refresh: it would stay valid at the server. */
  async #revokeUnused(token: UpstreamToken, route: Route): Promise<void> {
    const { userId, routeId, upstream, issuer } = token;
    try {
      if (!(await this.#deps.upstreamOAuth.revoke(token, route)).revoked) return;
      await this.#store.audit({ action: "upstream_token.revoked", userId, routeId, upstream, issuer });
    } catch (error) {
      this.#deps.logger.warn({ err: error, userId, route: routeId }, "an unused token was not revoked");
    }
  }

  async #obtainOnce(
    connection: Connection,
    route: Route,
    subject: TokenSubject,
    ahead: boolean,
  ): Promise<Flight> {
    const { name, token } = connection;
    const place = { server: route.id, name, version: token?.version, urgent: !ahead };
    const result = await this.#queue.run(place, () => this.#obtainNow(connection, route, subject));
    if (result === "full") return waiting(Number.POSITIVE_INFINITY, "too_many_refreshes");
    if (result === "left") return this.#closing ? waiting(1, "refresh_waiting") : { kind: "changed" };
    return result;
  }

  async #obtainNow(connection: Connection, route: Route, subject: TokenSubject): Promise<RefreshResult> {
    if (!connection.token && !(await mayAddEndpoint(this.#store, connection.key, route)))
      return { kind: "gone", reason: "too_many_endpoints" };
    const basis = await putBasis(this.#store, connection.key);
    const outcome = await this.#paced(route.id, () => this.#deps.upstreamOAuth.grant(route, subject));
    this.#deps.metrics.upstreamTokenRefreshes.inc({ outcome: outcome.kind });
    if (outcome.kind === "unavailable")
      return this.#backoffs.begin(connection.name, outcome, outcome.retryAfterSeconds);
    // Signing in again helps at once.
    if (outcome.kind === "rejected" && outcome.reason === "sign_in_token_missing")
      return { kind: "gone", reason: outcome.reason };
    if (outcome.kind === "rejected")
      return this.#backoffs.begin(connection.name, { kind: "gone", reason: outcome.reason }, 10);
    this.#backoffs.end(connection.name);
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

function toResult(connection: Connection, reason = "disconnected"): RefreshResult {
  return connection.token ? { kind: "refreshed", connection } : { kind: "gone", reason };
}
