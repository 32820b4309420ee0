import type { AuthorizationServer } from "oauth4webapi";
import { redirectUriByHand } from "../config/callback-urls.ts";
import { endpointUrl, possibleEndpoints } from "../config/paths.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import {
  type ConsentAuth,
  consentAuth,
  type NonInteractiveAuth,
  type Route,
  upstreamAuth,
} from "../model/route.ts";
import type { Store } from "../store/store.ts";
import { clientAuth, configuredClient } from "./client-authentication.ts";
import { clientUrls, documentClientId, publishedClientUrls } from "./client-metadata.ts";
import { notesOf } from "./client-registration.ts";
import type { Discovery } from "./discovery.ts";
import { requireCredential, UpstreamOAuthError } from "./errors.ts";
import type { FailureCode } from "./failures.ts";
import { checkIssuer, checkNamedIssuer } from "./issuer-ownership.ts";
import { grantOf } from "./non-interactive/non-interactive.ts";
import { codeOfUnknown } from "./probe.ts";
import type { RouteFetch } from "./route-fetch.ts";
import { credentialOwner, type UpstreamServer } from "./server-metadata.ts";
import { isNoEndpoint } from "./token-response.ts";
import { openSession, openStream, setHeaders } from "./trial-mcp-session.ts";
import type { DiscoveryStep, DiscoveryResult as Outcome } from "./upstream-oauth.ts";

interface DoctorDeps {
  readonly routes: CurrentRoutes;
  readonly discovery: Discovery;
  readonly routeFetch: RouteFetch;
  /** Absent: there is no database with registrations. */
  readonly store?: { readonly clientRegistrations: Pick<Store["clientRegistrations"], "find"> };
}
type OnStep = (step: DiscoveryStep) => void;
type Found = Extract<Outcome, { ok: true }>;

/**
 * Runs the steps of a call or an authorization on this route that have no side effects, and reports the result of each. Registers nothing,
 * stores nothing, requests no token.
 */
export async function doctor(deps: DoctorDeps, route: Route, onStep: OnStep): Promise<Outcome> {
  const say = (step: Omit<DiscoveryStep, "name">) => onStep({ name: "result", ...step });
  let opened: string | undefined;
  const watched: OnStep = (step) => {
    if (step.opensStream) opened = step.url;
    onStep(step);
  };
  try {
    const found = await examine(deps, route, watched);
    // If no token is needed, a session has been opened already.
    if (opened !== undefined && found.needed) {
      const at = possibleEndpoints(route).find((one) => endpointUrl(one) === opened) ?? route;
      await openStream(deps, at, onStep, setHeaders(route), { tokenWanted: true });
    }
    say({ ok: true, finding: inWords(found, route) });
    return found;
  } catch (thrown) {
    const failure = UpstreamOAuthError.from(thrown, "discovery").toFailure();
    say({ ok: false, finding: failure.message });
    return failure;
  }
}

function inWords({ needed, issuer }: Found, route: Route): string {
  if (!needed) return "the upstream asks for no token: callers reach it without one";
  return consentAuth(route)
    ? "users who connect are sent to this server"
    : `tokens are requested from ${issuer}`;
}

async function examine(deps: DoctorDeps, route: Route, onStep: OnStep): Promise<Found> {
  const auth = upstreamAuth(route);
  requireCredential(route);
  switch (auth?.mode) {
    case undefined:
      return { ok: true, needed: false, scopes: [] };
    case "static": {
      const without = auth.headers.length === 0 ? "credential_missing" : "credential_rejected";
      await openSession(deps, route, onStep, Object.fromEntries(auth.headers), without);
      return { ok: true, needed: false, scopes: [] };
    }
    case "non_interactive":
      return nonInteractive(deps, route, auth, onStep);
    case "consent":
      return consented(deps, route, auth, onStep);
    default:
      return auth satisfies never;
  }
}

/** Tokens without consent: whether there is an authorization server, and a usable key. */
async function nonInteractive(
  deps: DoctorDeps,
  route: Route,
  auth: NonInteractiveAuth,
  onStep: OnStep,
): Promise<Found> {
  await checkOwnKey(auth);
  const { tokenUrl } = auth;
  const server = tokenUrl === undefined ? await serverOf(deps, route, auth, onStep) : undefined;
  await grantOf(auth).check?.(deps, route, auth.settings, {
    onStep,
    checkTokenEndpoint: (url) => checkTokenEndpoint(deps, route, url, onStep),
  });
  const url = tokenUrl ?? server?.as.token_endpoint;
  if (url === undefined)
    throw new UpstreamOAuthError("metadata_invalid", `${server?.as.issuer} has no token endpoint`);
  if (!server) await askWithoutToken(deps, route, onStep);
  onStep({ name: "client", ok: true, finding: `the client id of the routes file: ${auth.clientId}` });
  await checkTokenEndpoint(deps, route, url, onStep);
  return {
    ok: true,
    needed: true,
    issuer: server?.as.issuer ?? new URL(url).origin,
    scopes: auth.scopes ?? [],
  };
}

async function serverOf(
  { discovery, routes }: DoctorDeps,
  route: Route,
  auth: NonInteractiveAuth,
  onStep: OnStep,
): Promise<UpstreamServer> {
  const { authorizationServerUrl } = auth;
  const server = await discovery.server(route, { authorizationServerUrl, onStep });
  checkIssuer(routes().config, route, { authorizationServerUrl }, { ...server.as, named: server.named });
  checkNamedIssuer(route, auth, server);
  return server;
}

/** Otherwise an unreadable key would only fail at the first call. */
async function checkOwnKey(auth: NonInteractiveAuth): Promise<void> {
  if (auth.privateKey === undefined) return;
  const ownKey = () => {
    throw new UpstreamOAuthError("key_unusable", "the route has no private_key");
  };
  await clientAuth(configuredClient(auth, { ownKey }), "private_key_jwt");
}

/** Tokens with a user's consent. */
async function consented(deps: DoctorDeps, route: Route, auth: ConsentAuth, onStep: OnStep): Promise<Found> {
  if (auth.endpoint) {
    await askWithoutToken(deps, route, onStep);
    await checkTokenEndpoint(deps, route, auth.endpoint.tokenUrl, onStep);
    const issuer = new URL(auth.endpoint.tokenUrl).origin;
    return { ok: true, needed: true, issuer, scopes: auth.scopes ?? [] };
  }
  if (auth.clientId === undefined && !(await asksForToken(deps, route, onStep)))
    return { ok: true, needed: false, scopes: [] };
  const { authorizationServerUrl, clientId } = auth;
  const server = await deps.discovery.server(route, { authorizationServerUrl, onStep });
  const { as, hasMetadata } = server;
  checkIssuer(deps.routes().config, route, auth, { ...as, named: server.named });
  if (clientId !== undefined) checkNamedIssuer(route, { clientId, authorizationServerUrl }, server);
  if (hasMetadata && !as.code_challenge_methods_supported?.includes("S256")) {
    throw new UpstreamOAuthError(
      "pkce_not_supported",
      `${as.issuer} does not list S256 in code_challenge_methods_supported; if it supports PKCE, set upstream_oauth2.endpoint on the route`,
    );
  }
  for (const name of ["authorization_endpoint", "token_endpoint"] as const) {
    if (as[name] === undefined)
      throw new UpstreamOAuthError("metadata_invalid", `${as.issuer} has no ${name.replace("_", " ")}`);
  }
  onStep({ name: "capabilities", url: as.token_endpoint, ok: true, finding: capabilities(hasMetadata, as) });
  await checkClient(deps, route, auth, server, onStep);
  await checkTokenEndpoint(deps, route, as.token_endpoint ?? "", onStep).catch((error: unknown) => {
    if (hasMetadata) throw error;
    throw new UpstreamOAuthError(
      "discovery_failed",
      "the upstream asks for a token, but publishes no OAuth metadata, and its default endpoints do not exist: it does not seem to use OAuth",
      { cause: error },
    );
  });
  return { ok: true, needed: true, issuer: as.issuer, scopes: auth.scopes ?? server.scopes };
}

/** @throws UpstreamOAuthError if the probe is inconclusive */
async function asksForToken(deps: DoctorDeps, route: Route, onStep: OnStep): Promise<boolean> {
  const steps: DiscoveryStep[] = [];
  const report = () => steps.forEach(onStep);
  const need = await deps.discovery
    .needed(route, (step) => steps.push(step))
    .catch((error: unknown) => {
      report();
      throw error;
    });
  // Discovery reports these steps again, in full.
  if (need.kind === "yes") return true;
  report();
  if (need.kind === "unknown") {
    const code = codeOfUnknown(need.status);
    throw new UpstreamOAuthError(code, `${endpointUrl(route)} ${need.finding}`);
  }
  // Some servers answer a ping without a token, but require one for `initialize`.
  const wants = await openSession(deps, route, onStep, {}).catch((error: unknown) => {
    if (error instanceof UpstreamOAuthError && error.code === "credential_missing") return true;
    throw error;
  });
  return wants === true;
}

/** With endpoints from the routes file: whether the upstream responds. It is expected to ask for a token. */
async function askWithoutToken(deps: DoctorDeps, route: Route, onStep: OnStep): Promise<void> {
  const asked = deps.discovery.needed(route, (step) => {
    if (step.name === "upstream") onStep(step);
  });
  const need = await asked.catch((error: unknown) => {
    // Its metadata does not matter here.
    if (UpstreamOAuthError.from(error, "the upstream cannot be probed").code === "resource_mismatch")
      return undefined;
    throw error;
  });
  if (need?.kind !== "unknown") return;
  throw new UpstreamOAuthError(codeOfUnknown(need.status), `${endpointUrl(route)} ${need.finding}`);
}

/** Which client the gateway uses. */
async function checkClient(
  deps: DoctorDeps,
  route: Route,
  auth: ConsentAuth,
  server: UpstreamServer,
  onStep: OnStep,
): Promise<void> {
  const { as } = server;
  const step = { name: "client", ok: true } as const;
  const table = deps.routes();
  const { clientIdMetadataUrl: published, clientIdMetadataDocument: mode } = table.config.upstreamOAuth;
  const urls =
    published === undefined
      ? clientUrls(table, route, credentialOwner(server))
      : publishedClientUrls(table, route, published);
  const byHand = redirectUriByHand(table.config, route);
  const byDocument =
    mode === "always" || (mode === "auto" && as.client_id_metadata_document_supported === true);
  if (auth.clientId) {
    const finding = `the client id of the routes file: ${auth.clientId}; its redirect URI there: ${byHand}`;
    onStep({ ...step, finding });
  } else if (byDocument) {
    const url = documentClientId(urls, as);
    onStep({ ...step, url, finding: "this gateway's client document, if the server can reach it" });
  } else if (as.registration_endpoint) {
    const known = await deps.store?.clientRegistrations.find(as.issuer, urls.redirectUri, true);
    const end = known?.secretExpiresAt?.toISOString().slice(0, 10);
    const finding = known
      ? `this gateway is registered there as ${known.clientId}${end === undefined ? "" : `, with a secret that expires on ${end}`}`
      : "supports dynamic client registration";
    const renewal =
      known && notesOf(known).management
        ? "it is renewed before that (RFC 7592)"
        : "the server offers no renewal (RFC 7592): users who are connected then must connect again";
    const note =
      end === undefined
        ? undefined
        : `the secret of this gateway's registration expires on ${end}; ${renewal}`;
    onStep({ ...step, url: as.registration_endpoint, finding, note });
  } else {
    throw new UpstreamOAuthError(
      "registration_unavailable",
      `${as.issuer} does not support dynamic client registration: register a client by hand with redirect URI ${byHand}, then set upstream_oauth2.client_id and client_secret on the route`,
    );
  }
}

/**
 * Whether a token endpoint exists: sends a request without client and grant, which every token endpoint rejects.
 *
 * @throws UpstreamOAuthError
 */
async function checkTokenEndpoint(
  { routeFetch }: DoctorDeps,
  route: Route,
  url: string,
  onStep: OnStep,
): Promise<void> {
  const step = { name: "token_endpoint", url } as const;
  const { host } = new URL(url);
  const fail = (code: FailureCode, finding: string, status?: number) => {
    onStep({ ...step, status, ok: false, finding });
    return new UpstreamOAuthError(code, `the token endpoint of ${host} ${finding}`);
  };
  let status: number;
  try {
    const headers = { "content-type": "application/x-www-form-urlencoded", accept: "application/json" };
    ({ status } = await routeFetch.fetchFor(route)(url, { method: "POST", headers, body: "grant_type=" }));
  } catch (error) {
    const failure = UpstreamOAuthError.from(error, "it");
    throw fail(failure.code, `cannot be reached: ${failure.message.replace(/^it: /, "")}`);
  }
  if (isNoEndpoint(status)) throw fail("token_endpoint_unusable", `does not exist (${status})`, status);
  if (status >= 500) throw fail("server_error", `failed (${status})`, status);
  onStep({ ...step, status, ok: true, finding: "answers" });
}

function capabilities(
  hasMetadata: boolean,
  as: Pick<AuthorizationServer, "authorization_response_iss_parameter_supported" | "revocation_endpoint">,
): string {
  if (!hasMetadata) return "unknown: no metadata; S256 is sent regardless";
  const iss = as.authorization_response_iss_parameter_supported
    ? "sends `iss` in responses"
    : "does not send `iss` in responses";
  return `supports PKCE with S256, ${iss}, ${as.revocation_endpoint ? "can revoke" : "cannot revoke"}`;
}
