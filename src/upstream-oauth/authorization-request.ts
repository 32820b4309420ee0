import {
  type AuthorizationServer,
  calculatePKCECodeChallenge,
  generateRandomCodeVerifier,
  generateRandomState,
} from "oauth4webapi";
import { callbackHost } from "../config/callback-urls.ts";
import { endpointUrl } from "../config/paths.ts";
import { type ConsentAuth, consentAuth, type Route } from "../model/route.ts";
import { type Persistence, personState } from "../store/save-token.ts";
import type { PersonState, UpstreamToken } from "../store/upstream-tokens.ts";
import type { AuthMethods } from "./client-authentication.ts";
import type { ReplacedClient } from "./client-registration.ts";
import type { Clients } from "./clients.ts";
import type { Discovery } from "./discovery.ts";
import { connectionFor, mayAddEndpoint } from "./endpoint-connection.ts";
import { UpstreamOAuthError } from "./errors.ts";
import {
  checkAskedIssuer,
  checkIssuer,
  isNamedByOperator,
  issuerName,
  knownAt,
  ownersOf,
  sameSite,
} from "./issuer-ownership.ts";
import type { RouteFetch } from "./route-fetch.ts";
import type { UpstreamServer } from "./server-metadata.ts";
import type { BeginConsent, ConsentNotice, PendingConsent, UpstreamOAuthDeps } from "./upstream-oauth.ts";
import { allowedScopes } from "./www-authenticate.ts";

/** The same authorization, started again with a new client. */
export interface Repeated {
  readonly location: string;
  readonly state: string;
  readonly because: UpstreamOAuthError;
}

/** What the second attempt knows about the client at the server. */
export interface SecondTry {
  /** Scopes of the registration to replace. */
  readonly registered: readonly string[];
  readonly insteadOf?: ReplacedClient;
}

/** Dependencies of `AuthorizationRequests` and `AuthorizationCallbacks`. */
export type AuthorizationDeps = UpstreamOAuthDeps & {
  readonly routeFetch: RouteFetch;
  readonly discovery: Discovery;
  readonly clients: Clients;
  readonly authMethods: AuthMethods;
  readonly persistence: Persistence;
};

type Begun = { readonly location: string; readonly state: string };

/** Starts authorizations at upstreams' authorization servers (RFC 6749 section 4.1.1). */
export class AuthorizationRequests {
  readonly #deps: AuthorizationDeps;

  constructor(deps: AuthorizationDeps) {
    this.#deps = deps;
  }

  /**
   * Starts an authorization, unless the user must first confirm the server and the scopes.
   * @throws UpstreamOAuthError
   */
  begin(consent: BeginConsent): Promise<Begun | { readonly notice: ConsentNotice }> {
    return this.#start(consent);
  }

  /** The server that a user would be redirected to, and the scopes. @throws UpstreamOAuthError */
  async notice(userId: string, route: Route): Promise<ConsentNotice> {
    return (await this.#plan(userId, route)).notice;
  }

  /**
   * Starts again, once, with a new client after the registration turned out to be gone or to lack scopes.
   * @throws `because` if that does not help
   */
  async beginAgain(
    route: Route,
    pending: PendingConsent,
    because: UpstreamOAuthError,
    second: SecondTry,
  ): Promise<Repeated> {
    const { userId, returnTo, popup, server, scopes, again, clientSource } = pending;
    if (again !== false || server === undefined || clientSource !== "registered") throw because;
    const begun = await this.#start(
      { userId, route, returnTo, popup, shown: { server, scopes } },
      { ...second, personState: pending.standing, begunAt: pending.begunAt },
    );
    if ("notice" in begun) throw because;
    return { ...begun, because };
  }

  async #serverFor(route: Route, auth: ConsentAuth, resourceMetadata?: string): Promise<UpstreamServer> {
    const { discovery } = this.#deps;
    if (!auth.endpoint) {
      const { authorizationServerUrl } = auth;
      const server = await discovery.server(route, { resourceMetadata, authorizationServerUrl });
      await checkAskedIssuer(discovery, route, auth, server.as.issuer);
      return server;
    }
    const { authUrl, tokenUrl, revocationUrl } = auth.endpoint;
    return {
      as: {
        issuer: new URL(tokenUrl).origin,
        authorization_endpoint: authUrl,
        token_endpoint: tokenUrl,
        revocation_endpoint: revocationUrl,
      },
      issuerKnown: false,
      hasMetadata: false,
      resource: endpointUrl(route),
      scopes: [],
      dpopRequired: false,
    };
  }

  async #plan(userId: string, route: Route) {
    const { routes, store } = this.#deps;
    const auth = consentOf(route);
    const connection = await connectionFor(store, userId, route);
    const required = await store.upstreamTokens.findRequiredScopes(connection);
    const server = await this.#serverFor(route, auth, required?.resourceMetadata);
    const { as } = server;
    const token = await store.upstreamTokens.find(connection);
    const { scopes, added } = scopesFor(auth, server, token, required?.scopes ?? []);
    const named = isNamedByOperator(auth, server.named ?? as.issuer);
    // A connected user has agreed to this issuer, but not to an authorization page of another owner that it has added since.
    const agreed = isIssuedBy(token, server) ? issuerName(as.issuer) : undefined;
    const identity = { ...as, named: server.named };
    const owners = ownersOf(identity).filter((owner) => owner !== agreed);
    if (!named) checkIssuer(routes().config, route, auth, identity, await knownAt(store, owners), owners);
    const asked = as.authorization_endpoint ?? as.issuer;
    const codesGoTo = server.named === undefined ? undefined : as.token_endpoint;
    const foreign = [asked, as.issuer, codesGoTo ?? asked].some((url) => !sameSite(url, route.upstream));
    const notice: ConsentNotice = { server: new URL(asked).host, foreign, scopes, added };
    // At a foreign server, the user confirms what the upstream chose rather than the operator: the server or the scopes.
    const chosen = auth.scopes === undefined && server.scopes.length > 0;
    return { auth, connection, server, notice, needed: added.length > 0 || (foreign && (!named || chosen)) };
  }

  /** @param again set for the second attempt of one authorization */
  async #start(
    { userId, route, returnTo, popup = false, shown }: BeginConsent,
    again?: SecondTry & { readonly personState?: PersonState; readonly begunAt?: number },
  ): Promise<Begun | { readonly notice: ConsentNotice }> {
    const { routes, store, metrics, clients } = this.#deps;
    const { auth, connection, server, notice, needed } = await this.#plan(userId, route);
    if (!(await mayAddEndpoint(store, connection, route)))
      throw new UpstreamOAuthError(
        "route_unavailable",
        "you are connected to too many endpoints of this server: disconnect it first",
      );
    const standing = again ? again.personState : await personState(store, connection);
    const { scopes } = notice;
    const { as } = server;
    if (server.hasMetadata && !as.code_challenge_methods_supported?.includes("S256")) {
      throw new UpstreamOAuthError(
        "pkce_not_supported",
        `${as.issuer} does not list S256 in code_challenge_methods_supported: without PKCE, a stolen code could be redeemed; if the server supports it, set upstream_oauth2.endpoint on route ${route.id}`,
      );
    }
    if (!as.token_endpoint) {
      throw new UpstreamOAuthError("metadata_invalid", `${as.issuer} has no token endpoint`);
    }
    if (needed && !covers(shown, notice)) return { notice };
    // All users share one registration, so it also needs the scopes that others request.
    const asked = [...new Set([...(again?.registered ?? []), ...scopes, ...scopesFor(auth, server).scopes])];
    const { client, redirectUri } = await clients
      .forConsent(route, auth, server, asked, again?.insteadOf)
      .catch((error: unknown) => {
        throw server.hasMetadata || auth.endpoint ? error : withoutOAuth(error, route);
      });
    const state = generateRandomState();
    const codeVerifier = generateRandomCodeVerifier();
    const resource = auth.authorizationUrlParams.resource ?? server.resource;
    const location = authorizationUrl(as, {
      clientId: client.clientId,
      redirectUri,
      state,
      codeChallenge: await calculatePKCECodeChallenge(codeVerifier),
      scopes,
      resource,
      extra: auth.authorizationUrlParams,
    });
    const payload: PendingConsent = {
      routeId: route.id,
      upstream: connection.upstream,
      askedPath: route.askedPath,
      userId,
      host: callbackHost(routes().config, route),
      redirectUri,
      codeVerifier,
      issuer: as.issuer,
      named: server.named,
      issuerKnown: server.issuerKnown,
      issRequired: as.authorization_response_iss_parameter_supported === true,
      tokenEndpoint: as.token_endpoint,
      revocationEndpoint: as.revocation_endpoint,
      clientId: client.clientId,
      authMethod: client.authMethod,
      clientSource: client.source,
      scopes,
      resource: resource || undefined,
      dpop: server.dpopRequired,
      returnTo,
      popup,
      server: notice.server,
      standing,
      again: again !== undefined,
      begunAt: again ? again.begunAt : Date.now(),
    };
    const expiresAt = new Date(Date.now() + routes().config.upstreamOAuth.pendingTtl * 1000);
    const dropped = await store.pendingAuthorizations.create(
      { kind: "upstream", state, userId, expiresAt, payload },
      routes().config.limits.pendingAuthorizationsPerUser,
    );
    if (dropped > 0) metrics.limitsReached.inc({ limit: "pending_authorizations_per_user" }, dropped);
    return { location, state };
  }
}

/** Default endpoints that do not register clients: the upstream asks for a token, but does not seem to use OAuth. */
function withoutOAuth(error: unknown, route: Route): unknown {
  const { code, detail } = UpstreamOAuthError.from(error, "registration");
  if (code !== "registration_rejected" && code !== "redirect_not_followed" && code !== "response_invalid")
    return error;
  return new UpstreamOAuthError(
    "discovery_failed",
    `the upstream asks for a token, but publishes no OAuth metadata and registers no clients at its default endpoints: if it does not use OAuth, set mcp.server.upstream_auth of route ${route.id} to none, or to the api_key that it accepts`,
    { cause: error, detail },
  );
}

/** Whether this server issued the token. */
export function isIssuedBy(
  token: UpstreamToken | undefined,
  { as, named }: Pick<UpstreamServer, "as" | "named">,
): boolean {
  if (token?.issuer !== as.issuer) return false;
  if (named === undefined) return true;
  return URL.parse(token.tokenEndpoint)?.origin === URL.parse(as.token_endpoint ?? "")?.origin;
}

/** Scopes to request: from the challenge or metadata, the configuration, a step-up, and the current connection. */
export function scopesFor(
  auth: ConsentAuth,
  server: UpstreamServer,
  token?: UpstreamToken,
  required: readonly string[] = [],
): { scopes: string[]; added: string[] } {
  const usual = auth.scopes ?? allowedScopes(auth, server.scopes);
  const scopes = new Set(required.length ? (auth.scopes ?? []) : usual);
  if (required.length)
    for (const scope of allowedScopes(auth, [...(token?.scopes ?? []), ...required])) scopes.add(scope);
  const added = [...scopes].filter((scope) => ![...usual, ...(token?.scopes ?? [])].includes(scope));
  if (server.as.scopes_supported?.includes("offline_access")) scopes.add("offline_access");
  return { scopes: [...scopes], added: added.filter((scope) => scope !== "offline_access") };
}

/** Whether the user has been shown this server and every scope. */
function covers(shown: BeginConsent["shown"], { server, scopes }: ConsentNotice): boolean {
  return shown?.server === server && scopes.every((scope) => shown.scopes.includes(scope));
}

/** @throws UpstreamOAuthError if the route does not use consent */
export function consentOf(route: Route): ConsentAuth {
  const auth = consentAuth(route);
  if (auth) return auth;
  throw new UpstreamOAuthError("route_unavailable", `route ${route.id} does not use consent`);
}

/**
 * The authorization URL that the browser is redirected to (RFC 6749 section 4.1.1, RFC 7636, RFC 8707).
 *
 * @throws UpstreamOAuthError `metadata_invalid` without an authorization endpoint.
 */
export function authorizationUrl(
  as: AuthorizationServer,
  request: {
    clientId: string;
    redirectUri: string;
    state: string;
    codeChallenge: string;
    scopes: readonly string[];
    resource?: string;
    /** `authorization_url_params`; an empty value removes a parameter. */
    extra: Readonly<Record<string, string>>;
  },
): string {
  if (!as.authorization_endpoint) {
    throw new UpstreamOAuthError("metadata_invalid", `${as.issuer} has no authorization endpoint`);
  }
  const url = new URL(as.authorization_endpoint);
  const set = (name: string, value: string | undefined) => {
    if (value) url.searchParams.set(name, value);
    else url.searchParams.delete(name);
  };
  set("scope", request.scopes.join(" "));
  set("resource", request.resource);
  // OpenID Connect Core section 11: offline access is granted only with a prompt for consent.
  if (request.scopes.includes("offline_access")) set("prompt", "consent");
  for (const [name, value] of Object.entries(request.extra)) set(name, value);
  // Last, so that nothing replaces them; a routes file that sets one of these is rejected.
  set("response_type", "code");
  set("client_id", request.clientId);
  set("redirect_uri", request.redirectUri);
  set("state", request.state);
  set("code_challenge", request.codeChallenge);
  set("code_challenge_method", "S256");
  return url.href;
}
