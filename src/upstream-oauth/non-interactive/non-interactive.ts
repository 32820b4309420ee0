import { readFile } from "node:fs/promises";
import { decodeJwt } from "jose";
import type { AuthorizationServer } from "oauth4webapi";
import { endpointUrl } from "../../config/endpoint.ts";
import { identityProviderOf } from "../../config/sign-in-providers.ts";
import type { ClientCredentialsAuth, IdJagAuth, Route, TokenExchangeAuth } from "../../model/route.ts";
import type { SignInSession } from "../../store/sign-in-sessions.ts";
import type { NewUpstreamToken } from "../../store/upstream-tokens.ts";
import { type AuthMethods, configuredClient, type UpstreamClient } from "../client-authentication.ts";
import { upstreamConnection } from "../connection.ts";
import type { Discovery } from "../discovery.ts";
import { generateDpopKey } from "../dpop.ts";
import { UpstreamOAuthError } from "../errors.ts";
import { checkAskedIssuer, claimIssuer, isNamedByOperator, keepToIssuer } from "../issuers.ts";
import type { RouteFetch } from "../route-fetch.ts";
import { requestToken } from "../token-endpoint.ts";
import type { TokenAnswer } from "../token-response.ts";
import type { TokenSubject, UpstreamOAuthDeps } from "../upstream-oauth.ts";

type NonInteractiveDeps = UpstreamOAuthDeps & {
  routeFetch: RouteFetch;
  discovery: Discovery;
  authMethods: AuthMethods;
};
type SignInToken = "idToken" | "accessToken";
interface TokenSource {
  readonly issuer: string;
  readonly tokenEndpoint: string;
  /** As in `UpstreamClient`. */
  readonly audience?: string;
  /** Its metadata, where it was discovered. */
  readonly as?: AuthorizationServer;
  readonly resource?: string;
  readonly scopes: readonly string[];
  readonly dpop: boolean;
  /** Of what was discovered: forgets that the route gets tokens there. */
  readonly undo?: () => Promise<void>;
}

const exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const type = (name: string) => `urn:ietf:params:oauth:token-type:${name}`;

/**
 * A TI without anybody's consent, for the kinds of upstream credentials that work so.
 *
 * @throws UpstreamOAuthError `sign_in_token_missing` when the person must sign in again; others as in `requestToken`.
 */
export async function obtainNonInteractive(
  deps: NonInteractiveDeps,
  route: Route,
  subject: TokenSubject,
): Promise<NewUpstreamToken> {
  const auth = route.mcp.kind === "server" ? route.mcp.auth : undefined;
  switch (auth?.type) {
    case "client_credentials":
      return at(await tokenSource(deps, route, auth), (place) =>
        clientCredentials(deps, route, auth, subject, place),
      );
    case "token_exchange":
      return tokenExchange(deps, route, auth, subject);
    case "id_jag":
      return at(await tokenSource(deps, route, auth), (place) =>
        identityAssertion(deps, route, auth, subject, place),
      );
    default:
      throw new UpstreamOAuthError("route_unavailable", `route ${route.id} has no grant without consent`);
  }
}

/** A server that has granted nothing does not count as the route's. */
async function at<T>(place: TokenSource, ask: (place: TokenSource) => Promise<T>): Promise<T> {
  try {
    return await ask(place);
  } catch (error) {
    await place.undo?.();
    throw error;
  }
}

/** RFC 6749 section 4.4; RFC 7523 section 2.1 with a workload's own JWT, section 2.2 with a private key. */
async function clientCredentials(
  deps: NonInteractiveDeps,
  route: Route,
  auth: ClientCredentialsAuth,
  subject: TokenSubject,
  place: TokenSource,
): Promise<NewUpstreamToken> {
  const scopes = auth.scopes ?? place.scopes;
  const common = { scope: scopes.join(" ") || undefined, resource: place.resource };
  const dpopKey = place.dpop ? await generateDpopKey() : undefined;
  const request = {
    fetch: deps.routeFetch.fetchFor(route),
    authMethods: deps.authMethods,
    issuer: place.issuer,
    tokenEndpoint: place.tokenEndpoint,
    client: ownClient(deps, auth, place),
    dpopKey,
  };
  const answer = auth.workloadIdentityFile
    ? await requestToken({
        ...request,
        grantType: jwtBearer,
        parameters: { ...common, assertion: await readWorkloadToken(auth.workloadIdentityFile) },
      })
    : await requestToken({ ...request, grantType: "client_credentials", parameters: common });
  return toToken(route, subject, place, auth.clientId, answer, scopes, dpopKey);
}

/** RFC 8693. */
async function tokenExchange(
  deps: NonInteractiveDeps,
  route: Route,
  auth: TokenExchangeAuth,
  subject: TokenSubject,
): Promise<NewUpstreamToken> {
  const place: TokenSource = {
    issuer: new URL(auth.tokenUrl).origin,
    tokenEndpoint: auth.tokenUrl,
    audience: auth.tokenUrl,
    resource: auth.audience ? undefined : endpointUrl(route),
    scopes: auth.scopes ?? [],
    dpop: false,
  };
  const subjectToken =
    auth.subjectToken === "external_token"
      ? { value: subject.externalToken, type: type("access_token") }
      : auth.subjectToken === "sign_in_id_token"
        ? { value: await signInToken(deps, subject.userId, "idToken"), type: type("id_token") }
        : { value: await signInToken(deps, subject.userId, "accessToken"), type: type("access_token") };
  if (!subjectToken.value) {
    throw new UpstreamOAuthError("sign_in_token_missing", "there is no token of the person to exchange");
  }
  const answer = await requestToken({
    fetch: deps.routeFetch.fetchFor(route),
    authMethods: deps.authMethods,
    issuer: place.issuer,
    tokenEndpoint: place.tokenEndpoint,
    client: ownClient(deps, auth, place),
    grantType: exchange,
    parameters: {
      subject_token: subjectToken.value,
      subject_token_type: subjectToken.type,
      requested_token_type: type("access_token"),
      audience: auth.audience,
      resource: place.resource,
      scope: auth.scopes?.join(" "),
    },
  });
  return toToken(route, subject, place, auth.clientId, answer, place.scopes);
}

/** Identity Assertion JWT Authorization Grant: the ID token for an assertion at the company's provider, that for a TI. */
async function identityAssertion(
  deps: NonInteractiveDeps,
  route: Route,
  auth: IdJagAuth,
  subject: TokenSubject,
  place: TokenSource,
): Promise<NewUpstreamToken> {
  const scopes = auth.scopes ?? place.scopes;
  const scope = scopes.join(" ") || undefined;
  const provider = await identityProvider(deps, route, auth, subject.userId);
  const assertion = await requestToken({
    fetch: deps.routeFetch.fetchFor(route),
    authMethods: deps.authMethods,
    ...provider,
    client: ownClient(deps, { clientId: auth.idpClientId, clientSecret: auth.idpClientSecret }, {}),
    grantType: exchange,
    parameters: {
      requested_token_type: type("id-jag"),
      audience: place.issuer,
      resource: place.resource,
      scope,
      subject_token: await signInToken(deps, subject.userId, "idToken"),
      subject_token_type: type("id_token"),
    },
  });
  if (assertion.issuedTokenType && assertion.issuedTokenType !== type("id-jag")) {
    throw new UpstreamOAuthError("token_invalid", "the identity provider issued no identity assertion");
  }
  const dpopKey = place.dpop ? await generateDpopKey() : undefined;
  const answer = await requestToken({
    fetch: deps.routeFetch.fetchFor(route),
    authMethods: deps.authMethods,
    issuer: place.issuer,
    tokenEndpoint: place.tokenEndpoint,
    client: ownClient(deps, auth, place),
    grantType: jwtBearer,
    parameters: { assertion: assertion.accessToken, scope, resource: place.resource },
    dpopKey,
  });
  return toToken(route, subject, place, auth.clientId, answer, scopes, dpopKey);
}

/** Where the grant is asked for: as configured, else discovered like a person's authorization server. */
async function tokenSource(
  deps: NonInteractiveDeps,
  route: Route,
  auth: ClientCredentialsAuth | IdJagAuth,
): Promise<TokenSource> {
  if (auth.type === "client_credentials" && auth.tokenUrl) {
    const { tokenUrl } = auth;
    return {
      issuer: new URL(tokenUrl).origin,
      tokenEndpoint: tokenUrl,
      audience: tokenUrl,
      resource: endpointUrl(route),
      scopes: [],
      dpop: false,
    };
  }
  const { authorizationServerUrl } = auth;
  const server = await deps.discovery.server(route, { authorizationServerUrl });
  if (!server.as.token_endpoint) {
    throw new UpstreamOAuthError("metadata_invalid", `${server.as.issuer} has no token endpoint`);
  }
  await checkAskedIssuer(deps.discovery, route, auth, server.as.issuer);
  // An assertion for another route's server, or a token of it, would be the upstream's for the naming.
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

/** The provider that `idp_client_id` is a client of, whose person this must be. */
async function identityProvider(
  deps: NonInteractiveDeps,
  route: Route,
  auth: IdJagAuth,
  userId: string,
): Promise<{ issuer: string; tokenEndpoint: string }> {
  if (auth.idpTokenUrl) {
    return { issuer: new URL(auth.idpTokenUrl).origin, tokenEndpoint: auth.idpTokenUrl };
  }
  const provider = identityProviderOf(deps.routes().config, auth);
  if (!provider || !userId.startsWith(`${provider.id}/`)) {
    throw new UpstreamOAuthError(
      "sign_in_token_missing",
      "the caller did not sign in at the provider that knows idp_client_id",
    );
  }
  const as = await deps.discovery.metadata(route, provider.issuer);
  if (as.token_endpoint) return { issuer: as.issuer, tokenEndpoint: as.token_endpoint };
  throw new UpstreamOAuthError("metadata_invalid", `${as.issuer} has no token endpoint`);
}

/** A token of the person that is still good; an expired one is renewed first, never sent. */
async function signInToken(deps: NonInteractiveDeps, userId: string, which: SignInToken): Promise<string> {
  let session = await deps.store.signInSessions.find(userId);
  if (session && hasExpired(session, which) && !refreshedWithoutSuccess(session, which)) {
    const outcome = (await deps.refreshSignIn?.(session)) ?? "sign_in_again";
    if (outcome === "unavailable") {
      const message = "the person's token from the company's provider has expired and cannot be renewed now";
      throw new UpstreamOAuthError("unreachable", message);
    }
    session = outcome === "ok" ? await deps.store.signInSessions.find(userId) : undefined;
  }
  const value = session?.[which];
  if (value && session && !hasExpired(session, which)) return value;
  throw new UpstreamOAuthError(
    "sign_in_token_missing",
    "the person's token from the company's provider is not at hand: signing in again brings it",
  );
}

function hasExpired(session: SignInSession, which: SignInToken): boolean {
  return endOf(session, which) <= Date.now();
}

/** The provider was asked after this token's end, and gave no newer one: many give an ID token at sign-in only. */
function refreshedWithoutSuccess(session: SignInSession, which: SignInToken): boolean {
  return session.tokensAt !== undefined && session.tokensAt >= endOf(session, which);
}

/** Unix ms; infinite for a token of which nobody says. */
function endOf(session: SignInSession, which: SignInToken): number {
  const { accessTokenExpiresAt, [which]: value } = session;
  const said = which === "accessToken" ? accessTokenExpiresAt : undefined;
  return (said ?? expiryOf(value) ?? Number.POSITIVE_INFINITY) * 1000;
}

function expiryOf(token: string | undefined): number | undefined {
  try {
    return token === undefined ? undefined : decodeJwt(token).exp;
  } catch {
    return undefined;
  }
}

async function readWorkloadToken(path: string): Promise<string> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (cause) {
    throw new UpstreamOAuthError("key_unusable", "the workload identity file cannot be read", { cause });
  }
}

function ownClient(
  { keys }: NonInteractiveDeps,
  auth: Parameters<typeof configuredClient>[0],
  { as, audience }: Pick<TokenSource, "as" | "audience">,
): UpstreamClient {
  return configuredClient(auth, { as, audience, ownKey: () => keys.signer("upstream_client") });
}

function toToken(
  route: Route,
  subject: TokenSubject,
  place: TokenSource,
  clientId: string,
  answer: TokenAnswer,
  scopes: readonly string[],
  dpopKey?: JsonWebKey,
): NewUpstreamToken {
  if (answer.tokenType === "N_A" || (answer.tokenType === "DPoP") !== (dpopKey !== undefined)) {
    throw new UpstreamOAuthError("token_invalid", "the server gave a token of another type than asked for");
  }
  return {
    ...upstreamConnection(subject.userId, route),
    issuer: place.issuer,
    tokenEndpoint: place.tokenEndpoint,
    revocationEndpoint: place.as?.revocation_endpoint,
    clientId,
    accessToken: answer.accessToken,
    tokenType: answer.tokenType,
    expiresAt: answer.expiresAt,
    // Kept out on purpose: asking again is as good, and proves each time that it is still allowed.
    scopes: answer.scopes ?? scopes,
    resource: place.resource,
    dpopKey,
  };
}
