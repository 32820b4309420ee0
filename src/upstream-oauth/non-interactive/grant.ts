import { decodeJwt } from "jose";
import type { AuthorizationServer } from "oauth4webapi";
import { endpointUrl } from "../../config/paths.ts";
import type { NonInteractiveAuth, Route } from "../../model/route.ts";
import type { SignInSession } from "../../store/sign-in-sessions.ts";
import type { NewUpstreamToken } from "../../store/upstream-tokens.ts";
import { type AuthMethods, configuredClient } from "../client-authentication.ts";
import type { Discovery } from "../discovery.ts";
import { upstreamConnection } from "../endpoint-connection.ts";
import { UpstreamOAuthError } from "../errors.ts";
import { checkAskedIssuer, claimIssuer, isNamedByOperator, keepToIssuer } from "../issuer-ownership.ts";
import type { RouteFetch } from "../route-fetch.ts";
import type { TokenAnswer } from "../token-response.ts";
import type { DiscoveryStep, TokenSubject, UpstreamOAuthDeps } from "../upstream-oauth.ts";

/** Registered names of grant types and token types (RFC 8693 section 3). */
export const grantTypes = {
  tokenExchange: "urn:ietf:params:oauth:grant-type:token-exchange",
  jwtBearer: "urn:ietf:params:oauth:grant-type:jwt-bearer",
};
export const tokenType = (name: string) => `urn:ietf:params:oauth:token-type:${name}`;

export type NonInteractiveDeps = UpstreamOAuthDeps & {
  routeFetch: RouteFetch;
  discovery: Discovery;
  authMethods: AuthMethods;
};

/** Where a token is requested. */
export interface TokenSource {
  readonly issuer: string;
  readonly tokenEndpoint: string;
  /** As in `UpstreamClient`. */
  readonly audience?: string;
  /** The server's metadata, if it was discovered. */
  readonly as?: AuthorizationServer;
  readonly resource?: string;
  readonly scopes: readonly string[];
  readonly dpop: boolean;
  /** For discovered servers: removes the record that the route gets tokens there. */
  readonly undo?: () => Promise<void>;
}

/** One request for a token. */
export interface TokenRequest<Settings> {
  readonly route: Route;
  readonly auth: NonInteractiveAuth;
  readonly settings: Settings;
  readonly subject: TokenSubject;
  readonly source: TokenSource;
}

/** How one type of `config/upstream-auth/` gets tokens. Each has a file in this folder and an entry in `non-interactive.ts`. */
export interface NonInteractiveGrant<Settings = unknown> {
  /** @throws UpstreamOAuthError */
  obtain(deps: NonInteractiveDeps, request: TokenRequest<Settings>): Promise<NewUpstreamToken>;
  /** For `doctor`: detects what would otherwise fail only at the first token request. @throws UpstreamOAuthError */
  check?(
    deps: Pick<NonInteractiveDeps, "routes" | "discovery">,
    route: Route,
    settings: Settings,
    report: {
      readonly onStep: (step: DiscoveryStep) => void;
      /** Reports whether a token endpoint answers as one. */
      checkTokenEndpoint(url: string): Promise<void>;
    },
  ): Promise<void>;
}

/** Types a grant by its settings, which are `unknown` on the route. */
export function nonInteractiveGrant<Settings>(grant: NonInteractiveGrant<Settings>): NonInteractiveGrant {
  return grant as NonInteractiveGrant;
}

/**
 * Where to request the token: as configured, else discovered as for a user's consent.
 * @throws UpstreamOAuthError
 */
export async function tokenSource(
  deps: NonInteractiveDeps,
  route: Route,
  auth: NonInteractiveAuth,
): Promise<TokenSource> {
  const { tokenUrl, authorizationServerUrl } = auth;
  if (tokenUrl !== undefined) {
    return {
      issuer: new URL(tokenUrl).origin,
      tokenEndpoint: tokenUrl,
      audience: tokenUrl,
      resource: endpointUrl(route),
      scopes: [],
      dpop: false,
    };
  }
  const server = await deps.discovery.server(route, { authorizationServerUrl });
  if (!server.as.token_endpoint) {
    throw new UpstreamOAuthError("metadata_invalid", `${server.as.issuer} has no token endpoint`);
  }
  await checkAskedIssuer(deps.discovery, route, auth, server.as.issuer);
  // Otherwise an upstream could obtain a token or an assertion of another route's server by naming that server.
  const { undo } = await claimIssuer(
    { config: deps.routes().config, store: deps.store },
    route,
    { authorizationServerUrl },
    server.as.issuer,
    isNamedByOperator({ authorizationServerUrl }, server.named ?? server.as.issuer),
  );
  await keepToIssuer(deps.store, route, auth, server).catch(async (error: unknown) => {
    await undo();
    throw error;
  });
  return {
    undo,
    issuer: server.as.issuer,
    tokenEndpoint: server.as.token_endpoint,
    as: server.hasMetadata ? server.as : undefined,
    resource: server.resource,
    scopes: server.scopes,
    dpop: server.dpopRequired,
  };
}

/** The part of a token request that is the same for every grant type: where it goes, and as which of the configured clients. */
export function requestAt(
  deps: NonInteractiveDeps,
  route: Route,
  source: Pick<TokenSource, "issuer" | "tokenEndpoint" | "as" | "audience">,
  client: Parameters<typeof configuredClient>[0],
) {
  const { issuer, tokenEndpoint, as, audience } = source;
  const ownKey = () => deps.keys.signer("upstream_client");
  return {
    fetch: deps.routeFetch.fetchFor(route),
    authMethods: deps.authMethods,
    issuer,
    tokenEndpoint,
    client: configuredClient(client, { as, audience, ownKey }),
  };
}

/** Converts a token response for the store. @throws UpstreamOAuthError `token_invalid` */
export function toToken(
  route: Route,
  subject: TokenSubject,
  source: TokenSource,
  clientId: string,
  answer: TokenAnswer,
  scopes: readonly string[],
  dpopKey?: JsonWebKey,
): NewUpstreamToken {
  if (answer.tokenType === "N_A" || (answer.tokenType === "DPoP") !== (dpopKey !== undefined)) {
    throw new UpstreamOAuthError(
      "token_invalid",
      "the server returned a token of a different type than requested",
    );
  }
  return {
    ...upstreamConnection(subject.userId, route),
    issuer: source.issuer,
    tokenEndpoint: source.tokenEndpoint,
    revocationEndpoint: source.as?.revocation_endpoint,
    clientId,
    accessToken: answer.accessToken,
    tokenType: answer.tokenType,
    expiresAt: answer.expiresAt,
    // No refresh token: a new request does the same, and shows that access is still allowed.
    scopes: answer.scopes ?? scopes,
    resource: source.resource,
    dpopKey,
  };
}

type SignInToken = "idToken" | "accessToken";

/**
 * A user's unexpired token from the sign-in provider. An expired token is refreshed first, and never sent.
 * @throws UpstreamOAuthError `sign_in_token_missing` if the user must sign in again, `unreachable` if the provider is
 */
export async function signInToken(
  deps: Pick<UpstreamOAuthDeps, "store" | "refreshSignIn">,
  userId: string,
  which: SignInToken,
): Promise<string> {
  let session = await deps.store.signInSessions.find(userId);
  if (session && hasExpired(session, which) && !refreshedWithoutSuccess(session, which)) {
    const outcome = (await deps.refreshSignIn?.(session)) ?? "sign_in_again";
    if (outcome === "unavailable") {
      const message = "the user's token from the sign-in provider has expired and cannot be refreshed now";
      throw new UpstreamOAuthError("unreachable", message);
    }
    session = outcome === "ok" ? await deps.store.signInSessions.find(userId) : undefined;
  }
  const value = session?.[which];
  if (value && session && !hasExpired(session, which)) return value;
  throw new UpstreamOAuthError(
    "sign_in_token_missing",
    "the user's token from the sign-in provider is not available: signing in again provides one",
  );
}

function hasExpired(session: SignInSession, which: SignInToken): boolean {
  return endOf(session, which) <= Date.now();
}

/** A refresh after the token's expiry returned no newer one: many providers issue an ID token only at sign-in. */
function refreshedWithoutSuccess(session: SignInSession, which: SignInToken): boolean {
  return session.tokensAt !== undefined && session.tokensAt >= endOf(session, which);
}

/** Unix ms; infinite if the expiry is unknown. */
function endOf(session: SignInSession, which: SignInToken): number {
  const { accessTokenExpiresAt, [which]: value } = session;
  const known = which === "accessToken" ? accessTokenExpiresAt : undefined;
  return (known ?? expiryOf(value) ?? Number.POSITIVE_INFINITY) * 1000;
}

function expiryOf(token: string | undefined): number | undefined {
  try {
    return token === undefined ? undefined : decodeJwt(token).exp;
  } catch {
    return undefined;
  }
}
