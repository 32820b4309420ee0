import type { Counter } from "prom-client";
import { askedAt } from "../config/paths.ts";
import { type ConnectionKey, connectionKeyName } from "../model/connection.ts";
import { needsPersonsConnection, nonInteractiveAuth, type Route } from "../model/route.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import { createDpopProofs } from "../upstream-oauth/dpop.ts";
import {
  endpointConnection,
  servesEndpoint,
  upstreamConnection,
} from "../upstream-oauth/endpoint-connection.ts";
import { withoutCredential } from "../upstream-oauth/errors.ts";
import { readFailureCode } from "../upstream-oauth/failures.ts";
import type { Revocation, TokenSubject } from "../upstream-oauth/upstream-oauth.ts";
import { startRefreshingAhead } from "./background-refresh.ts";
import {
  type Connection,
  type ConnectionCache,
  createConnectionCache,
  scopesOf,
  uncoveredScopes,
  union,
} from "./connection-cache.ts";
import { createDisconnect, type Disconnect } from "./disconnect.ts";
import type { Failure, RefreshResult } from "./refresh-failures.ts";
import { Refresher } from "./refresher.ts";
import { UpstreamRejections } from "./rejections-and-step-up.ts";
import { isFinallyRejected } from "./unexplained-rejections.ts";
import {
  type ConnectionState,
  type Credential,
  forbidden,
  forServiceAccount,
  goneCredential,
  missing,
  needUnknown,
  type RejectionOutcome,
  staticCredential,
  type TokenCaller,
  type UpstreamRejection,
  type UpstreamTokens,
  type UpstreamTokensDeps,
} from "./upstream-tokens.ts";
import { createUsage, type Usage } from "./usage.ts";
import { UpstreamVerification } from "./verification.ts";

/** `looking`: only reads the state of a connection, which does not count as usage. */
type StateCaller = TokenCaller & { readonly looking?: true };

const withoutToken: Credential = { kind: "credential", headers: [] };
const unawaited = { ahead: true, isAwaited: () => false };

/** Finds, refreshes and disconnects the upstream tokens of all users. */
export function createUpstreamTokens(deps: UpstreamTokensDeps): UpstreamTokens {
  return new TokenBroker(deps);
}

class TokenBroker implements UpstreamTokens {
  readonly #upstreamOAuth: UpstreamTokensDeps["upstreamOAuth"];
  readonly #logger: UpstreamTokensDeps["logger"];
  readonly #admission: UpstreamTokensDeps["admission"];
  /** Reads whose turn has not come yet, by connection. */
  readonly #waitingLoads = new Map<string, Promise<Connection>>();
  readonly #proofs = createDpopProofs();
  readonly #usage: Usage;
  readonly #cache: ConnectionCache;
  readonly #refresher: Refresher;
  readonly #disconnect: Disconnect;
  readonly #rejections: UpstreamRejections;
  readonly #verification: UpstreamVerification;
  readonly #stopRefreshingAhead: () => void;
  readonly #hit: Counter.Internal;
  readonly #miss: Counter.Internal;

  constructor(deps: UpstreamTokensDeps) {
    const { store, upstreamOAuth, metrics, logger } = deps;
    const entries = deps.routes().config.limits.cacheEntries;
    this.#upstreamOAuth = upstreamOAuth;
    this.#logger = logger;
    this.#admission = deps.admission;
    this.#usage = createUsage({ store, entries, logger });
    const cache = createConnectionCache({
      store,
      credentialOf: (token, name) => this.#credentialOf(token, name),
      entries,
      onEvict: () => metrics.cacheEvictions.inc({ cache: "connection" }),
    });
    const refresher = new Refresher({ ...deps, cache });
    this.#cache = cache;
    this.#refresher = refresher;
    this.#disconnect = createDisconnect({ ...deps, cache, refresher });
    const keyFor = this.#keyFor.bind(this);
    this.#rejections = new UpstreamRejections({ ...deps, cache, refresher, proofs: this.#proofs, keyFor });
    this.#verification = new UpstreamVerification({
      ...deps,
      rejections: this.#rejections,
      find: this.find.bind(this),
    });
    this.#stopRefreshingAhead = startRefreshingAhead({ ...deps, refresher, cache });
    this.#hit = metrics.cacheLookups.labels({ cache: "upstream_token", result: "hit" });
    this.#miss = metrics.cacheLookups.labels({ cache: "upstream_token", result: "miss" });
  }

  find(caller: StateCaller, plain: Route, now = Date.now()): Credential | Promise<Credential> {
    const route = askedAt(plain, caller.askedPath ?? plain.askedPath);
    if (route.missingSecrets) return withoutCredential;
    const fixed = staticCredential(route);
    if (fixed) return fixed;
    if (caller.kind !== "service_account") return this.#findOf(caller.userId, caller, route, now);
    const owner = needsPersonsConnection(route) ? caller.delegatedBy : caller.userId;
    const found = owner ? this.#findOf(owner, caller, route, now) : this.#withoutOwner(route);
    const asServiceAccount = (one: Credential) => forServiceAccount(one, route);
    return found instanceof Promise ? found.then(asServiceAccount) : asServiceAccount(found);
  }

  async connectionState(userId: string, route: Route): Promise<ConnectionState> {
    const found = await this.#stateOf(userId, route);
    if (found.state !== "missing") return { ...found, missingScopes: [] };
    const key = await this.#keyFor(userId, route);
    const connection = await this.#cache.load(key, connectionKeyName(key));
    return { ...found, missingScopes: uncoveredScopes(connection) };
  }

  verify(userId: string, route: Route): Promise<void> {
    return this.#verification.verify(userId, route);
  }

  async disconnect(userId: string, route: Route): Promise<boolean> {
    const key = upstreamConnection(userId, route);
    // Users cannot disconnect the service's own token.
    if (key.userId !== userId) return false;
    return this.#disconnect.endAllTo(key, route);
  }

  end(...ending: Parameters<Disconnect["end"]>): Promise<Revocation | undefined> {
    return this.#disconnect.end(...ending);
  }

  disconnectAll(userId: string): Promise<number> {
    return this.#disconnect.endAllOf(userId);
  }

  disconnectOrphans(): Promise<number> {
    return this.#disconnect.endOrphans();
  }

  handleRejection(rejection: UpstreamRejection): Promise<RejectionOutcome> {
    return this.#rejections.handle(rejection);
  }

  async close(): Promise<void> {
    this.#stopRefreshingAhead();
    await this.#refresher.close();
    await this.#usage.close();
    this.#cache.close();
  }

  #credentialOf(token: UpstreamToken, name: string): Extract<Credential, { kind: "credential" }> {
    return {
      kind: "credential",
      headers: [["authorization", `${token.tokenType} ${token.accessToken}`]],
      connection: name,
      version: token.version,
      proof: token.dpopKey && this.#proofs.proofOf(token, token.dpopKey),
    };
  }

  #decide(
    connection: Connection,
    caller: StateCaller,
    route: Route,
    now: number,
  ): Credential | Promise<Credential> {
    const { token, credential } = connection;
    if (!token || !credential) return this.#withoutConnection(connection, caller, route, now);
    if (uncoveredScopes(connection).length) {
      return missing(union(token.scopes, connection.requiredScopes?.scopes), "scope_required");
    }
    const left = token.expiresAt ? token.expiresAt.getTime() - now : Number.POSITIVE_INFINITY;
    // A token that the upstream rejects and that cannot be refreshed is not sent again.
    if (left > 0 && !(token.rejections && isFinallyRejected(token.rejections, now))) {
      if (left < aheadMs(token)) this.#refreshSoon(connection, token, caller, route, now);
      if (!caller.looking) this.#usage.record(token, caller, now);
      return credential;
    }
    return this.#renew(connection, token, caller, route, now);
  }

  /** Refreshes in the background, while the old token is still valid. */
  #refreshSoon(
    connection: Connection,
    token: UpstreamToken,
    caller: StateCaller,
    route: Route,
    now: number,
  ): void {
    if (this.#refresher.backoff(connection.name, now)) return;
    if (!token.refreshToken && !nonInteractiveAuth(route)) return;
    const refreshed = nonInteractiveAuth(route)
      ? this.#refresher.obtain(connection, route, subjectOf(connection, caller), unawaited)
      : this.#refresher.refresh(connection, token, route, unawaited);
    refreshed.catch((error: unknown) => {
      this.#logger.warn({ err: error, route: route.id }, "a refresh ahead of expiry failed");
    });
  }

  #renew(
    connection: Connection,
    token: UpstreamToken | undefined,
    caller: StateCaller,
    route: Route,
    now: number,
  ): Credential | Promise<Credential> {
    const { name } = connection;
    const failure = this.#refresher.backoff(name, now) ?? this.#refresher.tooLate(name);
    if (failure) return this.#fromRefresh(failure, caller, route);
    const nonInteractive = nonInteractiveAuth(route) !== undefined;
    let late: Failure | undefined;
    const options = { isAwaited: () => late === undefined };
    if (!nonInteractive && !token?.refreshToken)
      return missing(scopesOf(connection, route), "upstream_token_expired");
    const refreshing =
      nonInteractive || !token
        ? this.#refresher.obtain(connection, route, subjectOf(connection, caller), options)
        : this.#refresher.refresh(connection, token, route, options);
    late = this.#refresher.tooLate(name);
    // Otherwise it stays in the queue without this check.
    if (!late) return refreshing.then((outcome) => this.#fromRefresh(outcome, caller, route));
    refreshing.catch((error: unknown) => {
      this.#logger.warn({ err: error, route: route.id }, "a refresh that nobody waited for failed");
    });
    return this.#fromRefresh(late, caller, route);
  }

  #fromRefresh(refreshed: RefreshResult, caller: StateCaller, route: Route): Credential {
    switch (refreshed.kind) {
      case "refreshed":
        if (refreshed.connection.token && !caller.looking)
          this.#usage.record(refreshed.connection.token, caller, Date.now());
        return refreshed.connection.credential ?? missing([], "disconnected");
      case "unavailable":
        return refreshed;
      case "gone":
        return goneCredential(refreshed.reason, route);
    }
  }

  #withoutConnection(
    connection: Connection,
    caller: StateCaller,
    route: Route,
    now: number,
  ): Credential | Promise<Credential> {
    if (nonInteractiveAuth(route)) return this.#renew(connection, undefined, caller, route, now);
    if (connection.requiredScopes) return missing(scopesOf(connection, route), "consent_needed");
    const answer = (needed: boolean) =>
      needed ? missing(scopesOf(connection, route), "consent_needed") : withoutToken;
    const needed = this.#upstreamOAuth.needed(route);
    if (typeof needed === "boolean") return answer(needed);
    return needed.then(answer, needUnknown);
  }

  async #stateOf(userId: string, route: Route): Promise<Omit<ConnectionState, "missingScopes">> {
    const caller: StateCaller = { userId, kind: "person", looking: true };
    const found = await this.find(caller, route);
    switch (found.kind) {
      case "credential":
        if (found.connection) return { state: "connected" };
        return { state: "not_needed", fault: this.#upstreamOAuth.fault(route) };
      case "unavailable":
        return {
          state: "unavailable",
          fault: nonInteractiveAuth(route) ? readFailureCode(found.reason) : found.fault,
        };
      default:
        if (!nonInteractiveAuth(route)) return { state: "missing" };
        // Consent does not help without an authorization flow. A new sign-in does if the token request uses the sign-in token.
        return {
          state: "unavailable",
          signInNeeded: found.kind === "missing" && nonInteractiveAuth(route)?.subjectToken === "sign_in",
        };
    }
  }

  /** No connection may be used: the call succeeds only if none is needed. */
  #withoutOwner(route: Route): Credential | Promise<Credential> {
    const reason = "a service account cannot consent, and its owner has delegated no connection";
    if (nonInteractiveAuth(route)) return forbidden(reason);
    const needed = this.#upstreamOAuth.needed(route);
    if (typeof needed === "boolean") return needed ? forbidden(reason) : withoutToken;
    return needed.then((is) => (is ? forbidden(reason) : withoutToken), needUnknown);
  }

  /** The connection that serves the requested endpoint: `connectionFor`, using the cache. */
  #keyFor(userId: string, route: Route): ConnectionKey | Promise<ConnectionKey> {
    const usual = upstreamConnection(userId, route);
    if (route.askedPath === undefined) return usual;
    const choose = ({ token }: Connection): ConnectionKey | Promise<ConnectionKey> => {
      const serves = servesEndpoint(token, route);
      if (serves && token) return usual;
      const own = endpointConnection(userId, route);
      return serves ? this.#load(own).then((separate) => (separate.token ? own : usual)) : own;
    };
    const known = this.#cache.peek(connectionKeyName(usual));
    return known ? choose(known) : this.#load(usual).then(choose);
  }

  #load(key: ConnectionKey): Promise<Connection> {
    const name = connectionKeyName(key);
    return Promise.resolve(this.#cache.peek(name) ?? this.#cache.load(key, name));
  }

  #findOf(userId: string, caller: StateCaller, route: Route, now: number): Credential | Promise<Credential> {
    const key = this.#keyFor(userId, route);
    if (key instanceof Promise) return key.then((found) => this.#findIn(found, caller, route, now));
    return this.#findIn(key, caller, route, now);
  }

  #findIn(
    key: ConnectionKey,
    caller: StateCaller,
    route: Route,
    now: number,
  ): Credential | Promise<Credential> {
    const name = connectionKeyName(key);
    const connection = this.#cache.peek(name);
    if (connection) {
      const decided = this.#decide(connection, caller, route, now);
      if (!("kind" in decided) || decided.kind !== "missing") {
        this.#hit.inc();
        return decided;
      }
      // The notification about a recent consent may not have arrived: read the store before asking for consent.
      this.#cache.drop(name);
    }
    // Also without a cache: most checks end here while thousands of connections wait for their refresh.
    const late = this.#refresher.tooLate(name);
    if (late && !caller.looking) return this.#fromRefresh(late, caller, route);
    this.#miss.inc();
    const loaded = caller.looking ? this.#cache.load(key, name) : this.#loadInTurn(key, name);
    if (typeof loaded === "number") return tooManyCallers(loaded);
    return loaded.then((found) => this.#decide(found, caller, route, now));
  }

  /** Reads a connection for a check, when it is its turn; a number: it has to come back after so many seconds. */
  #loadInTurn(key: ConnectionKey, name: string): Promise<Connection> | number {
    const admission = this.#admission;
    if (!admission || this.#cache.isLoading(name)) return this.#cache.load(key, name);
    // A person whose calls come faster than they are answered takes one turn.
    const waiting = this.#waitingLoads.get(name);
    if (waiting) return waiting;
    const retryAfterSeconds = admission.turnAway(true);
    if (retryAfterSeconds !== undefined) return retryAfterSeconds;
    let hasBegun = false;
    const load = admission.run(() => {
      hasBegun = true;
      this.#waitingLoads.delete(name);
      return this.#cache.load(key, name);
    }, true);
    if (!hasBegun) this.#waitingLoads.set(name, load);
    return load;
  }
}

/** The subject of a token request: the owner of the connection, with the caller's external token. */
function subjectOf({ key }: Connection, { externalToken }: TokenCaller): TokenSubject {
  return { userId: key.userId, externalToken };
}

function tooManyCallers(retryAfterSeconds: number): Credential {
  return { kind: "unavailable", retryAfterSeconds, reason: "too_many_callers" };
}

/** The last minute of a token's lifetime, or the last tenth of a short one, ms. */
function aheadMs({ expiresAt, updatedAt }: UpstreamToken): number {
  const life = expiresAt ? expiresAt.getTime() - updatedAt.getTime() : 0;
  return Math.min(60_000, life / 10);
}
