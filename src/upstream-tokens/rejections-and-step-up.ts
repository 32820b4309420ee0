import { askedAt, endpointUrl } from "../config/paths.ts";
import { type ConnectionKey, connectionKeyName } from "../model/connection.ts";
import { consentAuth, nonInteractiveAuth, type Route, upstreamAuth } from "../model/route.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import type { DpopProofs } from "../upstream-oauth/dpop.ts";
import { atUpstream } from "../upstream-oauth/resource-metadata.ts";
import { allowedScopes, parseChallenge, type UpstreamChallenge } from "../upstream-oauth/www-authenticate.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import type { Connection, ConnectionCache } from "./connection-cache.ts";
import type { Refresher } from "./refresher.ts";
import type { RejectionOutcome, UpstreamRejection, UpstreamTokensDeps } from "./upstream-tokens.ts";

/** A rejection with its parsed challenge. */
type Rejection = UpstreamRejection & UpstreamChallenge;

/** If a token is rejected this soon after it was issued, another one does not help, ms. */
const freshMs = 60_000;

type RejectionDeps = UpstreamTokensDeps & {
  readonly cache: ConnectionCache;
  readonly refresher: Refresher;
  readonly proofs: DpopProofs;
  /** The connection that serves the requested endpoint of a route. */
  readonly keyFor: (userId: string, route: Route) => ConnectionKey | Promise<ConnectionKey>;
};

/**
 * Handles an upstream's rejection of an injected upstream token: refreshes once, then asks for consent, with more scopes if the upstream
 * requires them (step-up). If the upstream rejects the token from that consent too, gives up, to avoid a loop. The response that the client
 * gets: `ext-proc/replacement-responses.ts`.
 */
export class UpstreamRejections {
  readonly #deps: RejectionDeps;
  readonly #store: UpstreamTokensDeps["store"];
  readonly #cache: ConnectionCache;
  /** The last consent that this replica asked for, by connection. */
  readonly #asked = boundedCache<string, { readonly at: number; readonly what: string }>(10_000);

  constructor(deps: RejectionDeps) {
    this.#deps = deps;
    this.#store = deps.store;
    this.#cache = deps.cache;
  }

  /** Decides what the client gets instead of the upstream's response. Rejects only if the store does. */
  async handle(upstreamRejection: UpstreamRejection): Promise<RejectionOutcome> {
    const known = this.#deps.routes().byId(upstreamRejection.routeId);
    const route = known && askedAt(known, upstreamRejection.askedPath);
    const challenge = parseChallenge(upstreamRejection.wwwAuthenticate, route && endpointUrl(route));
    const rejection: Rejection = { scopes: [], ...upstreamRejection, ...challenge };
    const auth = route && upstreamAuth(route);
    if (!route || !auth) return { kind: "untouched", reason: "no_server_route" };
    if (rejection.status === 403 && rejection.error !== "insufficient_scope") {
      return { kind: "untouched", reason: "not_about_scope" };
    }
    // A rejection by the former upstream does not apply to the token of the current one.
    if (rejection.upstreamHash !== undefined && rejection.upstreamHash !== route.upstreamHash)
      return retry("upstream_changed");
    if (auth.mode === "static" && auth.headers.length === 0) {
      return giveUp(
        502,
        "credential_missing",
        "the server asks for a credential, and none is configured for it here (upstream_auth: none)",
      );
    }
    if (auth.mode === "static") {
      return giveUp(
        502,
        "credential_rejected",
        "the server rejects the credential that is configured for it here",
      );
    }
    const key = await this.#deps.keyFor(rejection.userId, route);
    const name = connectionKeyName(key);
    this.#cache.drop(name);
    const connection = await this.#cache.load(key, name);
    const { token } = connection;
    if (!token) {
      // The upstream requires a token now, even if it did not before.
      this.#deps.upstreamOAuth.noteNeeded(route);
      if (nonInteractiveAuth(route)) return retry("obtain_again");
      const { requiredScopes } = connection;
      return this.#askForConsent(
        rejection,
        route,
        connection,
        union(requiredScopes?.scopes, rejection.scopes),
        "no_token",
      );
    }
    if (token.version !== rejection.version) return retry("newer_token");
    return rejection.status === 401
      ? this.#unauthorized(rejection, route, connection, token)
      : this.#insufficientScope(rejection, route, connection, token);
  }

  async #askForConsent(
    rejection: Rejection,
    route: Route,
    { key, name, token }: Connection,
    scopes: readonly string[],
    reason: string,
  ): Promise<RejectionOutcome> {
    const named = rejection.resourceMetadata;
    const resourceMetadata = named === undefined ? undefined : atUpstream(route, named);
    if (named !== undefined && resourceMetadata === undefined)
      this.#deps.logger.warn(
        { route: route.id, resourceMetadata: named?.slice(0, 512) },
        "resource_metadata of a challenge ignored: it is not on the upstream's origin",
      );
    // Not stored for an endpoint without a connection: clients choose the paths, and the next authorization discovers the scopes again.
    if (token || key.upstream === route.upstream)
      await this.#store.upstreamTokens.requireScopes(key, {
        scopes,
        resourceMetadata,
        requiredAt: new Date(),
      });
    this.#cache.drop(name);
    this.#asked.set(name, { at: Date.now(), what: whatOf(rejection) });
    return { kind: "consent", scopes, reason };
  }

  /** Whether the user has consented to exactly this, and the upstream still rejects the token. */
  #rejectedAfterConsent(rejection: Rejection, name: string, token: UpstreamToken): boolean {
    const before = this.#asked.get(name);
    return (
      before !== undefined &&
      !isSpent(token) &&
      before.what === whatOf(rejection) &&
      isFromConsent(token) &&
      token.connectedAt.getTime() >= before.at - clockToleranceMs &&
      Date.now() - token.connectedAt.getTime() < freshMs
    );
  }

  async #unauthorized(
    rejection: Rejection,
    route: Route,
    connection: Connection,
    token: UpstreamToken,
  ): Promise<RejectionOutcome> {
    if (rejection.dpopNonce && token.dpopKey) {
      this.#deps.proofs.remember(route.id, rejection.dpopNonce);
      if (rejection.error === "use_dpop_nonce") return retry("dpop_nonce");
    }
    if (nonInteractiveAuth(route)) return this.#obtainAgain(rejection, connection, token);
    if (this.#rejectedAfterConsent(rejection, connection.name, token)) {
      return giveUp(502, "token_rejected_again", "the server rejects the token that was just issued for it");
    }
    // The upstream may have moved to another authorization server.
    this.#deps.upstreamOAuth.forget(route);
    const justRefreshed =
      !isFromConsent(token) && !isSpent(token) && Date.now() - token.updatedAt.getTime() < freshMs;
    if (token.refreshToken && !justRefreshed) {
      const refreshed = await this.#deps.refresher.refresh(connection, token, route, { rejected: true });
      if (refreshed.kind === "refreshed") return retry("refreshed");
      if (refreshed.kind === "unavailable") return refreshed;
    } else {
      await this.#store.upstreamTokens.deleteVersion(connection.key, token.version, {
        action: "upstream_token.rejected",
        ...connection.key,
        issuer: token.issuer,
        reason: "rejected_by_upstream",
      });
    }
    const kept = asksForScopes(route) ? token.scopes : [];
    return this.#askForConsent(rejection, route, connection, union(kept, rejection.scopes), "token_rejected");
  }

  /** Tokens without consent are obtained again, once. */
  async #obtainAgain(
    rejection: Rejection,
    connection: Connection,
    token: UpstreamToken,
  ): Promise<RejectionOutcome> {
    const justGranted = !isSpent(token) && Date.now() - token.updatedAt.getTime() < freshMs;
    if (justGranted && this.#asked.has(connection.name)) {
      return giveUp(502, "token_rejected_again", "the server rejects the token that was just issued for it");
    }
    this.#asked.set(connection.name, { at: Date.now(), what: whatOf(rejection) });
    await this.#store.upstreamTokens.deleteVersion(connection.key, token.version, {
      action: "upstream_token.rejected",
      ...connection.key,
      issuer: token.issuer,
      reason: "rejected_by_upstream",
    });
    this.#cache.drop(connection.name);
    // The next request obtains a new one: some grants need the caller's external token, which is not available here.
    return retry("obtain_again");
  }

  async #insufficientScope(
    rejection: Rejection,
    route: Route,
    connection: Connection,
    token: UpstreamToken,
  ): Promise<RejectionOutcome> {
    const auth = consentAuth(route);
    if (auth && allowedScopes(auth, rejection.scopes).length < rejection.scopes.length) {
      return giveUp(
        403,
        "scope_above_ceiling",
        "the server asks for permissions that its operator does not allow here (upstream_oauth2.max_scopes)",
      );
    }
    const lacking = rejection.scopes.filter((scope) => !token.scopes.includes(scope));
    const covered = rejection.scopes.length > 0 && lacking.length === 0;
    if (
      nonInteractiveAuth(route) ||
      covered ||
      this.#rejectedAfterConsent(rejection, connection.name, token)
    ) {
      return giveUp(
        403,
        "scope_not_grantable",
        "the server asks for permissions that its authorization server does not grant here",
      );
    }
    return this.#askForConsent(
      rejection,
      route,
      connection,
      union(token.scopes, rejection.scopes),
      "scope_required",
    );
  }
}

/** Tolerated clock difference to the store, ms. */
const clockToleranceMs = 2000;

/** Expired, possibly only by the upstream's clock: a rejection is expected, and no reason to delete the token. */
function isSpent({ expiresAt }: UpstreamToken): boolean {
  return expiresAt !== undefined && expiresAt.getTime() - clockToleranceMs < Date.now();
}
/** A refresh keeps `connectedAt`, so both times are equal only for a token from the consent itself. */
function isFromConsent(token: UpstreamToken): boolean {
  return token.connectedAt.getTime() === token.updatedAt.getTime();
}
/**
 * If the routes file sets endpoints but no scopes, no scopes are requested: the granted ones come from other parameters (Slack's
 * `user_scope`).
 */
function asksForScopes(route: Route): boolean {
  const auth = consentAuth(route);
  return auth?.endpoint === undefined || auth.scopes !== undefined;
}
function whatOf(rejection: Rejection): string {
  return `${rejection.status} ${[...rejection.scopes].sort().join(" ")}`;
}
function union(a: readonly string[] = [], b: readonly string[] = []): string[] {
  return [...new Set([...a, ...b])];
}
function retry(reason: string): RejectionOutcome {
  return { kind: "retry", reason };
}
function giveUp(status: 403 | 502, reason: string, message: string): RejectionOutcome {
  return { kind: "give_up", status, reason, message };
}
