import { AuthorizationResponseError, validateAuthResponse } from "oauth4webapi";
import { callbackHost, callbackUri, hasOneOAuthRoute } from "../config/callback-urls.ts";
import { askedAt, endpointUrl } from "../config/paths.ts";
import type { ConsentAuth, Route } from "../model/route.ts";
import { hasDisconnectedOrSignedOut, putBasis, putUnlessChanged } from "../store/save-token.ts";
import type { NewUpstreamToken, PutBasis } from "../store/upstream-tokens.ts";
import { withDeadline } from "../util/deadline.ts";
import {
  type AuthorizationDeps,
  type AuthorizationRequests,
  consentOf,
  isIssuedBy,
  type Repeated,
} from "./authorization-request.ts";
import type { UpstreamClient } from "./client-authentication.ts";
import { generateDpopKey } from "./dpop.ts";
import { UpstreamOAuthError } from "./errors.ts";
import { claimIssuer, isNamedByOperator } from "./issuer-ownership.ts";
import { revoke } from "./revoke.ts";
import { requestToken } from "./token-endpoint.ts";
import type { FinishConsent, PendingConsent } from "./upstream-oauth.ts";

/** How long the browser waits for the database, ms. */
const browserTimeoutMs = 15_000;

/**
 * Completes authorizations that `AuthorizationRequests` started: callback, code, token (RFC 6749 sections 4.1.2 to 4.1.4). The browser
 * arrives at `portal/connect.ts`.
 */
export class AuthorizationCallbacks {
  readonly #deps: AuthorizationDeps;
  readonly #requests: AuthorizationRequests;

  constructor(deps: AuthorizationDeps, requests: AuthorizationRequests) {
    this.#deps = deps;
    this.#requests = requests;
  }

  /** Consumes the pending authorization that a callback belongs to. @throws UpstreamOAuthError `state_*` */
  async claim({ params, callback, host, userId, browserState }: FinishConsent): Promise<PendingConsent> {
    const states = params.getAll("state");
    const [state] = states;
    if (!state || states.length > 1) {
      throw new UpstreamOAuthError("state_missing", "the callback does not match a pending authorization");
    }
    // Not consumed: a stolen link must not end the authorization.
    if (browserState !== state) {
      throw new UpstreamOAuthError(
        "state_of_other_browser",
        "this authorization was started in another browser, or its cookie is missing: start again in this browser",
      );
    }
    const row = await this.#deps.store.pendingAuthorizations.consume<PendingConsent>("upstream", state);
    if (!row) {
      throw new UpstreamOAuthError(
        "state_unknown",
        "this authorization has already been used, or took too long",
      );
    }
    if (row.payload.userId !== userId || row.payload.host !== host) {
      throw new UpstreamOAuthError(
        "state_of_other_user",
        "a different user is signed in than when this authorization started",
      );
    }
    if (row.payload.redirectUri !== callback || !this.#isAnswered(callback, row.payload)) {
      throw new UpstreamOAuthError(
        "state_of_other_server",
        "the response arrived at the callback of a different authorization server than the one that was asked",
      );
    }
    return row.payload;
  }

  /**
   * Checks the authorization response, redeems the code and stores the token.
   *
   * @returns where to redirect the browser again, and why, if the client registration is gone or lacks scopes
   * @throws UpstreamOAuthError
   */
  async redeem(pending: PendingConsent, params: URLSearchParams): Promise<Repeated | undefined> {
    const { routes, clients } = this.#deps;
    const known = routes().byId(pending.routeId);
    const route = known && askedAt(known, pending.askedPath);
    if (!route?.enabled || ![route.upstream, endpointUrl(route)].includes(pending.upstream)) {
      throw new UpstreamOAuthError(
        "route_unavailable",
        "this server has been disabled, removed or moved in the meantime",
      );
    }
    const auth = consentOf(route);
    const clientKey = {
      issuer: pending.issuer,
      clientId: pending.clientId,
      redirectUri: pending.redirectUri,
    };
    let code: string;
    try {
      code = readCode(pending, params);
    } catch (error) {
      if (!(error instanceof UpstreamOAuthError) || error.error !== "invalid_scope") throw error;
      await this.#basisOf(pending);
      // A forged response gains nothing: scopes required by one user replace a registration at most once a day.
      const replaceable = await clients.replaceableForScopes(route, clientKey, pending.scopes);
      if (replaceable === undefined) throw error;
      return this.#requests.beginAgain(route, pending, error, replaceable);
    }
    const basis = await this.#basisOf(pending);
    const client = await clients.known(route, clientKey);
    if (!client) {
      const gone = new UpstreamOAuthError(
        "client_rejected",
        "this gateway's credentials at the server have changed: try again",
      );
      return this.#requests.beginAgain(route, pending, gone, { registered: [] });
    }
    const claim = auth.endpoint ? undefined : await this.#claimFor(route, auth, pending);
    try {
      await this.#exchange(route, auth, pending, { code, client, basis });
      return undefined;
    } catch (error) {
      // A token that is stored later, or revoked, was issued by that server too.
      const isObtained =
        error instanceof UpstreamOAuthError &&
        (error.code === "storage_unavailable" || error.code === "disconnected_during_authorization");
      if (!isObtained) await claim?.undo();
      // The server knows a client that signs, since it has just accepted its authorization request; it only lacks the keys.
      const isRejected = error instanceof UpstreamOAuthError && error.code === "client_rejected";
      if (!isRejected || pending.authMethod === "private_key_jwt") throw error;
      if (!(await clients.isGone(route, clientKey, error))) throw error;
      // If it cannot be replaced now, it is tested before the next redirect.
      clients.retestRegistration(route, client);
      return this.#requests.beginAgain(route, pending, error, { registered: [], insteadOf: client });
    }
  }

  /** The callback without an id is for hosts with a single OAuth route. There is no callback on a host that an application shares. */
  #isAnswered(callback: string, { routeId, host }: PendingConsent): boolean {
    const { config, byId } = this.#deps.routes();
    const route = byId(routeId);
    if (route && callbackHost(config, route) !== host) return false;
    return callback !== callbackUri(config, host) || hasOneOAuthRoute(config, host);
  }

  /** A user who is already connected at this server has agreed to it. */
  async #claimFor(route: Route, auth: ConsentAuth, pending: PendingConsent) {
    const { routes, store } = this.#deps;
    const { issuer, named, tokenEndpoint: token_endpoint } = pending;
    const token = await store.upstreamTokens.find(connectionOf(pending));
    const agreed =
      isIssuedBy(token, { as: { issuer, token_endpoint }, named }) ||
      isNamedByOperator(auth, named ?? issuer);
    return claimIssuer({ config: routes().config, store }, route, auth, issuer, agreed);
  }

  /** Read first, and compared again when the token is stored. @throws UpstreamOAuthError `disconnected_during_authorization` */
  async #basisOf(pending: PendingConsent): Promise<PutBasis> {
    const now = await putBasis(this.#deps.store, connectionOf(pending));
    const basis = { ...now, ...pending.standing };
    if (hasDisconnectedOrSignedOut(basis, now)) throw disconnectedDuringAuthorization();
    return basis;
  }

  async #exchange(
    route: Route,
    auth: ConsentAuth,
    pending: PendingConsent,
    {
      code,
      client,
      basis,
    }: { readonly code: string; readonly client: UpstreamClient; readonly basis: PutBasis },
  ): Promise<void> {
    const { routeFetch, authMethods } = this.#deps;
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
      throw new UpstreamOAuthError(
        "token_invalid",
        "the server returned a token of a different type than requested",
      );
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
    await this.#keep(token, route, basis);
  }

  /**
   * The code is redeemed. If the database is down, the token is stored when it is back. If the user has disconnected or reconnected in
   * the meantime, the token is revoked. The browser waits only for a short time.
   */
  async #keep(token: NewUpstreamToken, route: Route, basis: PutBasis): Promise<void> {
    const { store, persistence } = this.#deps;
    const { userId, routeId, upstream, issuer, clientId } = token;
    const audit = { action: "upstream_token.obtained", userId, routeId, upstream, issuer, clientId } as const;
    const storing = persistence.write((late) => putUnlessChanged(store, token, audit, { basis, late }));
    const stored = storing.then(
      async (isStored) => {
        if (isStored) return true;
        await this.#discard(
          token,
          route,
          "token revoked instead of stored: the user disconnected, was removed or reconnected after the request",
        );
        throw disconnectedDuringAuthorization();
      },
      async (error: unknown) => {
        await this.#discard(token, route, "revoking a token that could not be stored", error);
        throw error;
      },
    );
    const isStored = await withDeadline(stored, browserTimeoutMs, () => false);
    if (isStored) return;
    stored.catch(() => {});
    throw new UpstreamOAuthError(
      "storage_unavailable",
      "access was granted, but the token cannot be stored now: it is stored as soon as the database is back, check again in a minute",
    );
  }

  async #discard(token: NewUpstreamToken, route: Route, why: string, err?: unknown): Promise<void> {
    const { logger } = this.#deps;
    const about = { userId: token.userId, route: token.routeId };
    logger.warn({ err, ...about }, why);
    const at = new Date();
    await revoke(this.#deps, { ...token, version: 0, connectedAt: at, updatedAt: at }, route).catch(
      (error: unknown) => logger.warn({ err: error, ...about }, "the token was not revoked"),
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

function readCode(pending: PendingConsent, params: URLSearchParams): string {
  const iss = params.get("iss");
  const as = {
    // Endpoints from the routes file have no issuer to compare with.
    issuer: pending.issuerKnown ? pending.issuer : (iss ?? pending.issuer),
    authorization_response_iss_parameter_supported: pending.issRequired,
  };
  if ((iss && iss !== as.issuer) || (!iss && pending.issRequired)) {
    throw new UpstreamOAuthError(
      "issuer_mismatch",
      "the response did not come from the authorization server that was asked (RFC 9207)",
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
      const isDenied = error.error === "access_denied" || error.error === "consent_required";
      throw new UpstreamOAuthError(
        isDenied
          ? "consent_denied"
          : error.error === "temporarily_unavailable"
            ? "server_error"
            : "authorization_rejected",
        isDenied
          ? "access was not granted at the server"
          : "the server's authorization page answered with an error",
        {
          error: error.error,
          detail: `${error.error} ${error.error_description ?? ""}`,
          server: URL.parse(pending.issuer)?.host,
        },
      );
    }
    throw UpstreamOAuthError.from(error, "the authorization response");
  }
  throw new UpstreamOAuthError("response_invalid", "the authorization response has no code");
}
