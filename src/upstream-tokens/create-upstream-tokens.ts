import { askedAt } from "../config/paths.ts";
import { type ConnectionKey, connectionKeyName } from "../model/connection.ts";
import { consentAuth, needsPersonsConnection, nonInteractiveAuth, type Route } from "../model/route.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import { endpointConnection, servesEndpoint, upstreamConnection } from "../upstream-oauth/connection.ts";
import { createDpopProofs } from "../upstream-oauth/dpop.ts";
import { UpstreamOAuthError } from "../upstream-oauth/errors.ts";
import { isTransient, readFailureCode } from "../upstream-oauth/failures.ts";
import type { TokenSubject } from "../upstream-oauth/upstream-oauth.ts";
import { startRefreshingAhead } from "./background-refresh.ts";
import { type Connection, createConnectionCache, createUsage, uncoveredScopes } from "./connections.ts";
import { createDisconnect } from "./disconnect.ts";
import { createRefresher, isFinallyRejected, type RefreshResult } from "./refresher.ts";
import { createUpstreamRejections } from "./upstream-rejections.ts";
import {
  type ConnectionState,
  type Credential,
  staticCredential,
  type TokenCaller,
  type UpstreamTokens,
  type UpstreamTokensDeps,
} from "./upstream-tokens.ts";

/** `looking`: only reads the state of a connection, which does not count as usage. */
type StateCaller = TokenCaller & { readonly looking?: true };

const withoutToken: Credential = { kind: "credential", headers: [] };

/** Finds, refreshes and disconnects the upstream tokens of all users. */
export function createUpstreamTokens(deps: UpstreamTokensDeps): UpstreamTokens {
  const { store, upstreamOAuth, metrics, logger } = deps;
  const proofs = createDpopProofs();
  const entries = deps.routes().config.limits.cacheEntries;
  const usage = createUsage({ store, entries, logger });
  const cache = createConnectionCache({
    store,
    credentialOf,
    entries,
    onEvict: () => metrics.cacheEvictions.inc({ cache: "connection" }),
  });
  const refresher = createRefresher({ ...deps, cache });
  const disconnect = createDisconnect({ ...deps, cache, refresher });
  const handleRejection = createUpstreamRejections({ ...deps, cache, refresher, proofs, keyFor });
  const stopRefreshingAhead = startRefreshingAhead({ ...deps, refresher, cache });
  const hit = metrics.cacheLookups.labels({ cache: "upstream_token", result: "hit" });
  const miss = metrics.cacheLookups.labels({ cache: "upstream_token", result: "miss" });

  function credentialOf(token: UpstreamToken, name: string): Extract<Credential, { kind: "credential" }> {
    return {
      kind: "credential",
      headers: [["authorization", `${token.tokenType} ${token.accessToken}`]],
      connection: name,
      version: token.version,
      proof: token.dpopKey && proofs.proofOf(token, token.dpopKey),
    };
  }

  function decide(
    connection: Connection,
    caller: StateCaller,
    route: Route,
    now: number,
  ): Credential | Promise<Credential> {
    const { token, credential } = connection;
    if (!token || !credential) return withoutConnection(connection, caller, route, now);
    if (uncoveredScopes(connection).length) {
      return missing(union(token.scopes, connection.requiredScopes?.scopes), "scope_required");
    }
    const left = token.expiresAt ? token.expiresAt.getTime() - now : Number.POSITIVE_INFINITY;
    // A token that the upstream rejects and that cannot be refreshed is not sent again.
    if (left > 0 && !(token.rejections && isFinallyRejected(token.rejections, now))) {
      if (left < aheadMs(token)) refreshSoon(connection, token, caller, route, now);
      if (!caller.looking) usage.record(token, caller, now);
      return credential;
    }
    return renew(connection, token, caller, route, now);
  }

  /** Refreshes in the background, while the old token is still valid. */
  function refreshSoon(
    connection: Connection,
    token: UpstreamToken,
    caller: StateCaller,
    route: Route,
    now: number,
  ): void {
    if (refresher.backoff(connection.name, now)) return;
    if (!token.refreshToken && !nonInteractiveAuth(route)) return;
    const renewal = nonInteractiveAuth(route)
      ? refresher.obtain(connection, route, subjectOf(connection, caller))
      : refresher.refresh(connection, token, route);
    renewal.catch((error: unknown) => {
      logger.warn({ err: error, route: route.id }, "a refresh ahead of expiry failed");
    });
  }

  function renew(
    connection: Connection,
    token: UpstreamToken | undefined,
    caller: StateCaller,
    route: Route,
    now: number,
  ): Credential | Promise<Credential> {
    const backoff = refresher.backoff(connection.name, now);
    if (backoff) return fromRefresh(backoff, caller, route);
    if (nonInteractiveAuth(route)) {
      const renewal = refresher.obtain(connection, route, subjectOf(connection, caller));
      return renewal.then((outcome) => fromRefresh(outcome, caller, route));
    }
    if (!token?.refreshToken) return missing(scopesOf(connection, route), "upstream_token_expired");
    return refresher.refresh(connection, token, route).then((outcome) => fromRefresh(outcome, caller, route));
  }

  function fromRefresh(renewal: RefreshResult, caller: StateCaller, route: Route): Credential {
    switch (renewal.kind) {
      case "renewed":
        if (renewal.connection.token && !caller.looking)
          usage.record(renewal.connection.token, caller, Date.now());
        return renewal.connection.credential ?? missing([], "disconnected");
      case "unavailable":
        return renewal;
      case "gone":
        return goneCredential(renewal.reason, route);
    }
  }

  function withoutConnection(
    connection: Connection,
    caller: StateCaller,
    route: Route,
    now: number,
  ): Credential | Promise<Credential> {
    if (nonInteractiveAuth(route)) return renew(connection, undefined, caller, route, now);
    if (connection.requiredScopes) return missing(scopesOf(connection, route), "consent_needed");
    const answer = (needed: boolean) =>
      needed ? missing(scopesOf(connection, route), "consent_needed") : withoutToken;
    const needed = upstreamOAuth.needed(route);
    if (typeof needed === "boolean") return answer(needed);
    return needed.then(answer, needUnknown);
  }

  /** The scopes of the routes file, and the required scopes if there are any. */
  function scopesOf({ requiredScopes }: Connection, route: Route): readonly string[] {
    return union(consentAuth(route)?.scopes, requiredScopes?.scopes);
  }

  async function stateOf(userId: string, route: Route): Promise<Omit<ConnectionState, "missingScopes">> {
    const caller: StateCaller = { userId, kind: "person", looking: true };
    const found = await find(caller, route, Date.now());
    switch (found.kind) {
      case "credential":
        if (found.connection) return { state: "connected" };
        return { state: "not_needed", fault: upstreamOAuth.fault(route) };
      case "unavailable":
        return {
          state: "unavailable",
          fault: nonInteractiveAuth(route) ? readFailureCode(found.reason) : found.fault,
        };
      default:
        if (!nonInteractiveAuth(route)) return { state: "missing" };
        // Consent does not help without an authorization flow. A new sign-in does if the token request usage the sign-in token.
        return {
          state: "unavailable",
          signInNeeded: found.kind === "missing" && nonInteractiveAuth(route)?.subjectToken === "sign_in",
        };
    }
  }

  function find(caller: StateCaller, plain: Route, now: number): Credential | Promise<Credential> {
    const route = askedAt(plain, caller.askedPath ?? plain.askedPath);
    const fixed = staticCredential(route);
    if (fixed) return fixed;
    if (caller.kind !== "service_account") return findOf(caller.userId, caller, route, now);
    const owner = needsPersonsConnection(route) ? caller.delegatedBy : caller.userId;
    const found = owner ? findOf(owner, caller, route, now) : withoutOwner(route);
    const asServiceAccount = (one: Credential) => forServiceAccount(one, route);
    return found instanceof Promise ? found.then(asServiceAccount) : asServiceAccount(found);
  }

  /** No connection may be used: the call succeeds only if none is needed. */
  function withoutOwner(route: Route): Credential | Promise<Credential> {
    const reason = "a service account cannot consent, and its owner has delegated no connection";
    if (nonInteractiveAuth(route)) return forbidden(reason);
    const needed = upstreamOAuth.needed(route);
    if (typeof needed === "boolean") return needed ? forbidden(reason) : withoutToken;
    return needed.then((is) => (is ? forbidden(reason) : withoutToken), needUnknown);
  }

  /** The connection that serves the requested endpoint: `connectionFor`, using the cache. */
  function keyFor(userId: string, route: Route): ConnectionKey | Promise<ConnectionKey> {
    const usual = upstreamConnection(userId, route);
    if (route.askedPath === undefined) return usual;
    const choose = ({ token }: Connection): ConnectionKey | Promise<ConnectionKey> => {
      const serves = servesEndpoint(token, route);
      if (serves && token) return usual;
      const own = endpointConnection(userId, route);
      return serves ? load(own).then((apart) => (apart.token ? own : usual)) : own;
    };
    const known = cache.peek(connectionKeyName(usual));
    return known ? choose(known) : load(usual).then(choose);
  }

  function load(key: ConnectionKey): Promise<Connection> {
    const name = connectionKeyName(key);
    return Promise.resolve(cache.peek(name) ?? cache.load(key, name));
  }

  function findOf(
    userId: string,
    caller: StateCaller,
    route: Route,
    now: number,
  ): Credential | Promise<Credential> {
    const key = keyFor(userId, route);
    if (key instanceof Promise) return key.then((found) => findIn(found, caller, route, now));
    return findIn(key, caller, route, now);
  }

  function findIn(
    key: ConnectionKey,
    caller: StateCaller,
    route: Route,
    now: number,
  ): Credential | Promise<Credential> {
    const name = connectionKeyName(key);
    const connection = cache.peek(name);
    if (connection) {
      const decided = decide(connection, caller, route, now);
      if (!("kind" in decided) || decided.kind !== "missing") {
        hit.inc();
        return decided;
      }
      // The notification about a recent consent may not have arrived: read the store before asking for consent.
      cache.drop(name);
    }
    miss.inc();
    return cache.load(key, name).then((loaded) => decide(loaded, caller, route, now));
  }

  return {
    find: (caller, route, now = Date.now()) => find(caller, route, now),

    async connectionState(userId, route) {
      const found = await stateOf(userId, route);
      if (found.state !== "missing") return { ...found, missingScopes: [] };
      const key = await keyFor(userId, route);
      const connection = await cache.load(key, connectionKeyName(key));
      return { ...found, missingScopes: uncoveredScopes(connection) };
    },

    async disconnect(userId, route) {
      const key = upstreamConnection(userId, route);
      // Users cannot disconnect the service's own token.
      if (key.userId !== userId) return false;
      return disconnect.endAllTo(key, route);
    },
    end: disconnect.end,
    disconnectAll: disconnect.endAllOf,
    disconnectOrphans: disconnect.endOrphans,

    handleRejection,

    async close() {
      stopRefreshingAhead();
      await refresher.close();
      cache.close();
    },
  };
}

function missing(scopes: readonly string[], reason: string): Extract<Credential, { kind: "missing" }> {
  return { kind: "missing", scopes, reason };
}

function forbidden(reason: string): Extract<Credential, { kind: "forbidden" }> {
  return { kind: "forbidden", reason };
}

/** The result while it is unknown whether the upstream needs a token. */
function needUnknown(thrown: unknown): Credential {
  const { code } = UpstreamOAuthError.from(thrown, "the upstream cannot be probed");
  return { kind: "unavailable", retryAfterSeconds: isTransient(code) ? 5 : 60, reason: code, fault: code };
}

/** Service accounts cannot consent: turns a missing credential into a denial. */
function forServiceAccount(found: Credential, route: Route): Credential {
  if (found.kind !== "missing") return found;
  return forbidden(
    needsPersonsConnection(route)
      ? `the delegated connection has ended or lacks a permission (${found.reason}); its owner must connect the server again`
      : `a service account has no sign-in whose token could be exchanged (${found.reason})`,
  );
}

/** For grants without consent, only a missing sign-in token leads to a challenge: signing in again helps then. */
function goneCredential(reason: string, route: Route): Credential {
  if (!nonInteractiveAuth(route)) return missing([], reason);
  if (reason === "sign_in_token_missing") return missing([], reason);
  return { kind: "forbidden", reason: `the server's authorization server issues no token (${reason})` };
}

/** The subject of a token request: the owner of the connection, with the caller's external token. */
function subjectOf({ key }: Connection, { externalToken }: TokenCaller): TokenSubject {
  return { userId: key.userId, externalToken };
}

function union(a: readonly string[] = [], b: readonly string[] = []): string[] {
  return [...new Set([...a, ...b])];
}

/** The last minute of a token's lifetime, or the last tenth of a short one, ms. */
function aheadMs({ expiresAt, updatedAt }: UpstreamToken): number {
  const life = expiresAt ? expiresAt.getTime() - updatedAt.getTime() : 0;
  return Math.min(60_000, life / 10);
}
