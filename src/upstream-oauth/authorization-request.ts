import { setTimeout as delay } from "node:timers/promises";
import {
  AuthorizationResponseError,
  calculatePKCECodeChallenge,
  generateRandomCodeVerifier,
  generateRandomState,
  validateAuthResponse,
} from "oauth4webapi";
import { askedAt, endpointUrl } from "../config/endpoint.ts";
import { callbackHost, callbackUri, hasOneOAuthRoute } from "../config/upstream-callback.ts";
import { type ConsentAuth, consentAuth, type Route } from "../model/route.ts";
import { hasLeft, type Persistence, putBasis, putUnlessChanged, standingOf } from "../store/persistently.ts";
import type { NewUpstreamToken, PutBasis, Standing, UpstreamToken } from "../store/upstream-tokens.ts";
import type { AuthMethods, UpstreamClient } from "./client-authentication.ts";
import type { Clients, UnfitClient } from "./clients.ts";
import { connectionFor, hasRoomFor } from "./connection.ts";
import type { Discovery } from "./discovery.ts";
import { generateDpopKey } from "./dpop.ts";
import { UpstreamOAuthError } from "./errors.ts";
import {
  checkAskedIssuer,
  checkIssuer,
  claimIssuer,
  isNamedByOperator,
  issuerName,
  knownAt,
  ownersOf,
  sameSite,
} from "./issuers.ts";
import { authorizationUrl, type PendingConsent } from "./pending-authorization.ts";
import { revoke } from "./revoke.ts";
import type { RouteFetch } from "./route-fetch.ts";
import type { UpstreamServer } from "./server-metadata.ts";
import { requestToken } from "./token-endpoint.ts";
import type { BeginConsent, ConsentNotice, FinishConsent, UpstreamOAuthDeps } from "./upstream-oauth.ts";
import { allowedScopes } from "./www-authenticate.ts";

/** The same trip from its beginning, with a new client. */
interface Repeated {
  readonly location: string;
  readonly state: string;
  readonly because: UpstreamOAuthError;
}

/** What is known of our client at the server by the second time. */
interface Again {
  /** Scopes of the registration that another one is to replace. */
  readonly registered: readonly string[];
  readonly unfit?: UnfitClient;
  /** As of the first time. */
  readonly standing?: Standing;
}

/** A person's trip to an upstream's authorization server and back. */
export interface AuthorizationRequests {
  /** @throws UpstreamOAuthError */
  begin(consent: BeginConsent): Promise<{ location: string; state: string } | { notice: ConsentNotice }>;
  /** Where a person would be sent, and what for. @throws UpstreamOAuthError */
  notice(userId: string, route: Route): Promise<ConsentNotice>;
  /** The trip a callback belongs to; from here on it is used up. @throws UpstreamOAuthError `state_*` */
  claim(callback: FinishConsent): Promise<PendingConsent>;
  /**
   * Checks the answer, redeems the code and stores the TI.
   *
   * @returns where the same browser has to go once more, as our client there has ended or been outgrown, and why
   * @throws UpstreamOAuthError
   */
  redeem(pending: PendingConsent, params: URLSearchParams): Promise<Repeated | undefined>;
}

export function createConsent(
  deps: UpstreamOAuthDeps & {
    routeFetch: RouteFetch;
    discovery: Discovery;
    clients: Clients;
    authMethods: AuthMethods;
    persistence: Persistence;
  },
): AuthorizationRequests {
  const { routes, store, metrics, logger, routeFetch, discovery, clients, authMethods, persistence } = deps;

  async function serverFor(
    route: Route,
    auth: ConsentAuth,
    resourceMetadata?: string,
  ): Promise<UpstreamServer> {
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

  /** Where a person would be sent, and what for. @throws UpstreamOAuthError */
  async function plan(userId: string, route: Route) {
    const auth = oauthOf(route);
    const connection = await connectionFor(store, userId, route);
    const demand = await store.upstreamTokens.findRequiredScopes(connection);
    const server = await serverFor(route, auth, demand?.resourceMetadata);
    const { as } = server;
    const token = await store.upstreamTokens.find(connection);
    const { scopes, added } = scopesFor(auth, server, token, demand?.scopes ?? []);
    const named = isNamedByOperator(auth, server.named ?? as.issuer);
    // Whoever is connected there already has agreed to it, not to another's page that it sends people to since.
    const agreed = isAt(token, server) ? issuerName(as.issuer) : undefined;
    const identity = { ...as, named: server.named };
    const owners = ownersOf(identity).filter((owner) => owner !== agreed);
    if (!named) checkIssuer(routes().config, route, auth, identity, await knownAt(store, owners), owners);
    const asked = as.authorization_endpoint ?? as.issuer;
    const codesGoTo = server.named === undefined ? undefined : as.token_endpoint;
    const foreign = [asked, as.issuer, codesGoTo ?? asked].some((url) => !sameSite(url, route.upstream));
    const notice: ConsentNotice = { server: new URL(asked).host, foreign, scopes, added };
    // At another's server, what the upstream chose and the operator has not: where, or what for.
    const chosen = auth.scopes === undefined && server.scopes.length > 0;
    return { auth, connection, server, notice, needed: added.length > 0 || (foreign && (!named || chosen)) };
  }

  /** The callback without an id is for hosts where one route only can be meant; and none is on a host that an application shares. */
  function isAnswered(callback: string, { routeId, host }: PendingConsent): boolean {
    const { config, byId } = routes();
    const route = byId(routeId);
    if (route && callbackHost(config, route) !== host) return false;
    return callback !== callbackUri(config, host) || hasOneOAuthRoute(config, host);
  }

  /** @param again the second time for one wish of a person's */
  async function start(
    { userId, route, returnTo, popup = false, shown }: BeginConsent,
    again?: Again,
  ): Promise<{ location: string; state: string } | { notice: ConsentNotice }> {
    const { auth, connection, server, notice, needed } = await plan(userId, route);
    if (!(await hasRoomFor(store, connection, route)))
      throw new UpstreamOAuthError(
        "route_unavailable",
        "you are connected to too many endpoints of this server: disconnect it first",
      );
    const standing = again ? again.standing : await standingOf(store, connection);
    const { scopes } = notice;
    const { as } = server;
    if (server.hasMetadata && !as.code_challenge_methods_supported?.includes("S256")) {
      throw new UpstreamOAuthError(
        "pkce_not_supported",
        `${as.issuer} does not list S256 in code_challenge_methods_supported: without PKCE a stolen code could be redeemed; if the server does support it, set upstream_oauth2.endpoint on route ${route.id}`,
      );
    }
    if (!as.token_endpoint) {
      throw new UpstreamOAuthError("metadata_invalid", `${as.issuer} has no token endpoint`);
    }
    if (needed && !covers(shown, notice)) return { notice };
    // Also what a connection of a person who was asked for less is asked for: one registration is for all of them.
    const asked = [...new Set([...(again?.registered ?? []), ...scopes, ...scopesFor(auth, server).scopes])];
    const { client, redirectUri } = await clients
      .forConsent(route, auth, server, asked, again?.unfit)
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
    };
    const expiresAt = new Date(Date.now() + routes().config.upstreamOAuth.pendingTtl * 1000);
    const dropped = await store.pendingAuthorizations.create(
      { kind: "upstream", state, userId, expiresAt, payload },
      routes().config.limits.pendingAuthorizationsPerUser,
    );
    if (dropped > 0) metrics.limitsReached.inc({ limit: "pending_authorizations_per_user" }, dropped);
    return { location, state };
  }

  return {
    async notice(userId, route) {
      return (await plan(userId, route)).notice;
    },

    begin: (consent) => start(consent),

    async claim({ params, callback, host, userId, browserState }) {
      const states = params.getAll("state");
      const [state] = states;
      if (!state || states.length > 1) {
        throw new UpstreamOAuthError("state_missing", "the answer names no consent trip of ours");
      }
      // Not used up: whoever holds a stolen link must not be able to spoil the trip either.
      if (browserState !== state) {
        throw new UpstreamOAuthError(
          "state_of_other_browser",
          "this consent was started in another browser, or its cookie is gone: start again from there",
        );
      }
      const row = await store.pendingAuthorizations.consume<PendingConsent>("upstream", state);
      if (!row) {
        throw new UpstreamOAuthError("state_unknown", "this consent has been used already, or took too long");
      }
      if (row.payload.userId !== userId || row.payload.host !== host) {
        throw new UpstreamOAuthError(
          "state_of_other_user",
          "somebody else is signed in now than when this consent was started",
        );
      }
      if (row.payload.redirectUri !== callback || !isAnswered(callback, row.payload)) {
        throw new UpstreamOAuthError(
          "state_of_other_server",
          "the answer came to the callback of another authorization server than the one that was asked",
        );
      }
      return row.payload;
    },

    async redeem(pending, params) {
      const known = routes().byId(pending.routeId);
      const route = known && askedAt(known, pending.askedPath);
      if (!route?.enabled || ![route.upstream, endpointUrl(route)].includes(pending.upstream)) {
        throw new UpstreamOAuthError(
          "route_unavailable",
          "this server has been switched off, removed or moved meanwhile",
        );
      }
      const auth = oauthOf(route);
      const place = {
        issuer: pending.issuer,
        clientId: pending.clientId,
        redirectUri: pending.redirectUri,
      };
      let code: string;
      try {
        code = readCode(pending, params);
      } catch (error) {
        if (!(error instanceof UpstreamOAuthError) || error.error !== "invalid_scope") throw error;
        await basisOf(pending);
        // Whoever forges this answer gets no more than what was due: another person's demand replaces a registration once a day.
        const outgrown = await clients.outgrown(route, place, pending.scopes);
        if (outgrown === undefined) throw error;
        return startAgain(route, pending, error, outgrown);
      }
      const basis = await basisOf(pending);
      const client = await clients.known(route, place);
      if (!client) {
        const gone = new UpstreamOAuthError(
          "client_refused",
          "our credentials at the server have changed: try again",
        );
        return startAgain(route, pending, gone, { registered: [] });
      }
      const claim = auth.endpoint ? undefined : await claimFor(route, auth, pending);
      try {
        await exchange(route, auth, pending, { code, client, basis });
        return undefined;
      } catch (error) {
        // Also a token that is stored later, or revoked, is one of that server's.
        const isObtained =
          error instanceof UpstreamOAuthError &&
          (error.code === "storage_unavailable" || error.code === "disconnected_during_authorization");
        if (!isObtained) await claim?.undo();
        // One that signs is known where its browser has just been, only its keys are not.
        const refused = error instanceof UpstreamOAuthError && error.code === "client_refused";
        if (!refused || pending.authMethod === "private_key_jwt") throw error;
        if (!(await clients.isGone(route, place, error))) throw error;
        // Where it cannot be replaced now, nobody is sent there with it without a trial.
        clients.doubt(route, client);
        return startAgain(route, pending, error, { registered: [], unfit: client });
      }
    },
  };

  /** A client that ended, or was outgrown, while the person was away gets them nothing; a new one can, once. */
  async function startAgain(
    route: Route,
    pending: PendingConsent,
    error: UpstreamOAuthError,
    repeated: Again,
  ): Promise<Repeated> {
    const { userId, returnTo, popup, server, scopes, again, clientSource, standing } = pending;
    if (again !== false || server === undefined || clientSource !== "registered") throw error;
    const begun = await start(
      { userId, route, returnTo, popup, shown: { server, scopes } },
      { ...repeated, standing },
    );
    if ("notice" in begun) throw error;
    return { ...begun, because: error };
  }

  /** Whoever is connected there already has agreed to it. */
  async function claimFor(route: Route, auth: ConsentAuth, pending: PendingConsent) {
    const { issuer, named, tokenEndpoint: token_endpoint } = pending;
    const token = await store.upstreamTokens.find(connectionOf(pending));
    const agreed =
      isAt(token, { as: { issuer, token_endpoint }, named }) || isNamedByOperator(auth, named ?? issuer);
    return claimIssuer({ config: routes().config, store }, route, auth, issuer, agreed);
  }

  /** Before anything is done for the person: compared again as the token is stored. @throws UpstreamOAuthError `disconnected_during_authorization` */
  async function basisOf(pending: PendingConsent): Promise<PutBasis> {
    const now = await putBasis(store, connectionOf(pending));
    const basis = { ...now, ...pending.standing };
    if (hasLeft(basis, now)) throw disconnectedDuringAuthorization();
    return basis;
  }

  async function exchange(
    route: Route,
    auth: ConsentAuth,
    pending: PendingConsent,
    {
      code,
      client,
      basis,
    }: { readonly code: string; readonly client: UpstreamClient; readonly basis: PutBasis },
  ): Promise<void> {
    const dpopKey = pending.dpop ? await generateDpopKey() : undefined;
    const answer = await requestToken({
      fetch: routeFetch.fetchFor(route),
      authMethods,
      issuer: pending.issuer,
      tokenEndpoint: pending.tokenEndpoint,
      client: { ...client, authMethod: pending.authMethod },
      grantType: "authorization_code",
      parameters: {
        code,
        redirect_uri: pending.redirectUri,
        code_verifier: pending.codeVerifier,
        resource: pending.resource,
      },
      dpopKey,
    });
    if (answer.tokenType === "N_A" || (answer.tokenType === "DPoP") !== (dpopKey !== undefined)) {
      throw new UpstreamOAuthError("token_invalid", "the server gave a token of another type than asked for");
    }
    const token: NewUpstreamToken = {
      ...connectionOf(pending),
      issuer: pending.issuer,
      tokenEndpoint: pending.tokenEndpoint,
      revocationEndpoint: pending.revocationEndpoint ?? auth.endpoint?.revocationUrl,
      clientId: pending.clientId,
      redirectUri: pending.redirectUri,
      accessToken: answer.accessToken,
      tokenType: answer.tokenType,
      expiresAt: answer.expiresAt,
      refreshToken: answer.refreshToken,
      refreshExpiresAt: answer.refreshExpiresAt,
      scopes: answer.scopes ?? pending.scopes,
      resource: pending.resource,
      dpopKey,
    };
    await keep(token, route, basis);
  }

  /**
   * The code is used up: what it brought is stored when the database is back, else revoked, as it is where the person has disconnected,
   * or decided otherwise, in the meantime. The browser waits for a moment only.
   */
  async function keep(token: NewUpstreamToken, route: Route, basis: PutBasis): Promise<void> {
    const { userId, routeId, upstream, issuer, clientId } = token;
    const audit = { action: "upstream_token.obtained", userId, routeId, upstream, issuer, clientId } as const;
    const storing = persistence.write((late) => putUnlessChanged(store, token, audit, { basis, late }));
    const stored = storing.then(
      async (isStored) => {
        if (isStored) return true;
        await discard(
          token,
          route,
          "token revoked instead of stored: the person disconnected, left or reconnected after the request",
        );
        throw disconnectedDuringAuthorization();
      },
      async (error: unknown) => {
        await discard(token, route, "a token that could not be stored is revoked", error);
        throw error;
      },
    );
    const isStored = await Promise.race([stored, delay(browserWaitsMs, false, { ref: false })]);
    if (isStored) return;
    stored.catch(() => {});
    throw new UpstreamOAuthError(
      "storage_unavailable",
      "access was granted, and cannot be stored just now: look again in a minute, it is stored as soon as that works",
    );
  }

  async function discard(token: NewUpstreamToken, route: Route, why: string, err?: unknown): Promise<void> {
    const about = { userId: token.userId, route: token.routeId };
    logger.warn({ err, ...about }, why);
    const at = new Date();
    await revoke(deps, { ...token, version: 0, connectedAt: at, updatedAt: at }, route).catch(
      (error: unknown) => logger.warn({ err: error, ...about }, "it was not revoked"),
    );
  }
}

function disconnectedDuringAuthorization(): UpstreamOAuthError {
  return new UpstreamOAuthError(
    "disconnected_during_authorization",
    "the server was disconnected after this authorization started: connect again",
  );
}

function connectionOf({ userId, routeId, upstream }: PendingConsent) {
  return { userId, routeId, upstream };
}

/** Guessed endpoints that register nobody: the upstream, which asks for a token, does not seem to use OAuth. */
function withoutOAuth(error: unknown, route: Route): unknown {
  const { code, detail } = UpstreamOAuthError.from(error, "registration");
  if (code !== "registration_refused" && code !== "redirect_refused" && code !== "response_invalid")
    return error;
  return new UpstreamOAuthError(
    "discovery_failed",
    `the upstream asks for a token, but publishes no OAuth metadata and registers nobody at its default endpoints: if it needs no OAuth, set mcp.server.upstream_auth of route ${route.id} to none, or to the api_key that it takes`,
    { cause: error, detail },
  );
}

/** Whether a token is of this very server. */
function isAt(
  token: UpstreamToken | undefined,
  { as, named }: Pick<UpstreamServer, "as" | "named">,
): boolean {
  if (token?.issuer !== as.issuer) return false;
  if (named === undefined) return true;
  return URL.parse(token.tokenEndpoint)?.origin === URL.parse(as.token_endpoint ?? "")?.origin;
}

/** For the database, ms. */
const browserWaitsMs = 15_000;

/** Challenge or metadata, configuration, what an upstream demanded since, and what the connection has already. */
export function scopesFor(
  auth: ConsentAuth,
  server: UpstreamServer,
  token?: UpstreamToken,
  demanded: readonly string[] = [],
): { scopes: string[]; added: string[] } {
  const usual = auth.scopes ?? allowedScopes(auth, server.scopes);
  const scopes = new Set(demanded.length ? (auth.scopes ?? []) : usual);
  if (demanded.length)
    for (const scope of allowedScopes(auth, [...(token?.scopes ?? []), ...demanded])) scopes.add(scope);
  const added = [...scopes].filter((scope) => ![...usual, ...(token?.scopes ?? [])].includes(scope));
  if (server.as.scopes_supported?.includes("offline_access")) scopes.add("offline_access");
  return { scopes: [...scopes], added: added.filter((scope) => scope !== "offline_access") };
}

/** Whether a person has been shown this: the same server, and every scope. */
function covers(shown: BeginConsent["shown"], { server, scopes }: ConsentNotice): boolean {
  return shown?.server === server && scopes.every((scope) => shown.scopes.includes(scope));
}

/** RFC 6749 section 4.1.2 and RFC 9207: `iss` first, on error answers too; then the error; then the code. */
function readCode(pending: PendingConsent, params: URLSearchParams): string {
  const iss = params.get("iss");
  const as = {
    // Endpoints from the routes file know no issuer to compare with.
    issuer: pending.issuerKnown ? pending.issuer : (iss ?? pending.issuer),
    authorization_response_iss_parameter_supported: pending.issRequired,
  };
  if ((iss && iss !== as.issuer) || (!iss && pending.issRequired)) {
    throw new UpstreamOAuthError(
      "issuer_mismatch",
      "the answer did not come from the authorization server that was asked (RFC 9207)",
    );
  }
  try {
    const valid = validateAuthResponse(
      as,
      { client_id: pending.clientId },
      params,
      params.get("state") ?? "",
    );
    const code = valid.get("code");
    if (code) return code;
  } catch (error) {
    if (error instanceof AuthorizationResponseError) {
      const refused = error.error === "access_denied" || error.error === "consent_required";
      throw new UpstreamOAuthError(
        refused
          ? "consent_refused"
          : error.error === "temporarily_unavailable"
            ? "server_error"
            : "authorization_refused",
        refused
          ? "access was not granted at the server"
          : "the server's authorization page answered with an error",
        {
          error: error.error,
          detail: `${error.error} ${error.error_description ?? ""}`,
          server: URL.parse(pending.issuer)?.host,
        },
      );
    }
    throw UpstreamOAuthError.from(error, "the authorization answer");
  }
  throw new UpstreamOAuthError("response_invalid", "the answer carries no code");
}

function oauthOf(route: Route): ConsentAuth {
  const auth = consentAuth(route);
  if (auth) return auth;
  throw new UpstreamOAuthError("route_unavailable", `route ${route.id} asks for no consent`);
}
