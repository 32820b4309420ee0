import { returnedCookies } from "../config/cookies.ts";
import { readProvenUpstreamPath, upstreamUrl } from "../config/paths.ts";
import { type ReservedRoute, unusableMessages, unusableRetrySeconds } from "../config/reserved-routes.ts";
import type { RouteTable } from "../config/route-table.ts";
import { type Caller, issuedTo, type RejectionReason } from "../external-tokens/external-tokens.ts";
import type { ProvenMetadata } from "../external-tokens/metadata-proofs.ts";
import { signedCallHeader } from "../external-tokens/signed-calls.ts";
import { aggregateOf, asksInCall, nonInteractiveAuth, type Route, unmatched } from "../model/route.ts";
import { notUsable } from "../upstream-oauth/failures.ts";
import type { Credential } from "../upstream-tokens/upstream-tokens.ts";
import { askForConsent } from "./ask-for-consent.ts";
import { type AuthorizeResult, authorize, authorizeBeforeBody } from "./authorize.ts";
import { challengePath, consentMissing, unauthorized } from "./challenge.ts";
import { type CheckDeps, type Checked, when } from "./check-types.ts";
import { checkClientRoute } from "./client-route.ts";
import { cors } from "./cors.ts";
import type { AllowMetadata, Deny, Header } from "./decision.ts";
import { mayBeLegacyStream, mayStartSession, type RequestFacts } from "./request.ts";
import { holdsToken, upstreamHeaders } from "./upstream-headers.ts";

const rejectionDescriptions: Readonly<
  Record<Exclude<RejectionReason, "issuer_unavailable" | "too_many_callers">, string>
> = {
  malformed: "the token was not issued by this gateway",
  too_large: "the token is too long",
  unknown_issuer: "the token's issuer is not trusted here",
  bad_signature: "the token's signature is not valid",
  wrong_type: "the token is not an access token",
  wrong_audience: "the token is for another resource",
  expired: "the token has expired",
  not_yet_valid: "the token is not valid yet",
  missing_claim: "the token lacks a required claim",
  revoked: "the token has been revoked",
};

/**
 * The stages of one request: route, external token, policy, credential. Synchronous as long as every step has its value in
 * memory. Rejects or throws only on unexpected failures; the caller then denies.
 */
export function check(facts: RequestFacts, deps: CheckDeps): Checked | Promise<Checked> {
  const table = deps.routes();
  const found = table.find(facts.host, facts.path);
  const published = table.textAt(facts.host, facts.path);
  if (published && (facts.method === "GET" || facts.method === "HEAD")) return publish(published);
  if (found === undefined) {
    const reserved = table.reservedAt(facts.host, facts.path);
    if (reserved?.enabled && !table.isOwnPath(facts.host, facts.path)) return denyReserved(reserved);
  }
  const named = facts.context.route;
  // A client does not recover from a challenge whose documents this Envoy does not serve yet, nor from a 404 for such a document.
  if (named === unmatched && (found?.enabled || table.isOwnPath(facts.host, facts.path)))
    return deny(found, 503, "route_mismatch", routeMismatch, retryAfter(1));
  // Envoy does not check the gateway's own paths. If one is checked, Envoy is configured differently: no upstream must get it.
  if (!found?.enabled || table.isOwnPath(facts.host, facts.path))
    return noRoute(facts, table.hasHost(facts.host));
  if (named !== undefined && named !== found.id)
    return deny(found, 503, "route_mismatch", routeMismatch, retryAfter(1));
  // An Envoy that does not name its route has selected it by the path as sent, where `/%62` differs from `/b`. A retry does
  // not help.
  if (named === undefined && table.find(facts.host, facts.sentPath)?.id !== found.id)
    return deny(found, 400, "path_not_normal", pathNotNormal);
  // Envoy merges such a path into two slashes. Unless Envoy says that it maps them to the route itself, it may send a path below it.
  if (found.prefix === "/" && /^\/{2,}$/.test(facts.sentPath) && facts.context.slashes === undefined)
    return deny(found, 400, "bad_path", onlySlashes);
  const route = table.withUpstream(found, facts.context.upstream);
  if (!route) return deny(found, 503, "upstream_mismatch", upstreamMismatch, retryAfter(1));
  if (route.mcp.kind === "client") return checkClientRoute(facts, route, deps);
  // A service worker could control every page of the host, including the issuer's.
  if (facts.headers["service-worker"] !== undefined)
    return deny(route, 403, "service_worker", "an MCP server's response cannot be a service worker");
  if (facts.method === "OPTIONS")
    return { decision: cors.preflight(facts, route), reason: "preflight", route };

  const { presented } = facts;
  if (presented.kind !== "bearer") {
    const tokenSent = presented.kind === "other";
    const description = tokenSent ? "only one bearer token is accepted" : "authorize first";
    const decision = unauthorized(route, place(facts, route), { tokenSent, description });
    return { decision, reason: tokenSent ? "malformed" : "no_token", route };
  }
  if (holdsToken(facts.path, presented.token) || holdsToken(facts.query, presented.token)) {
    return deny(route, 400, "token_in_url", "access tokens belong in the Authorization header only");
  }
  return when(deps.externalTokens.verify(presented.token, route), (verification) => {
    if (verification.ok) {
      const { caller } = verification;
      const proven = readProvenUpstreamPath(route, facts.path);
      if (proven && !deps.metadataProofs.verifyUpstreamPath(route, caller.userId, proven.path, proven.proof))
        return noRoute(facts, true);
      const known = asSeenByPolicy(facts, caller);
      const checked =
        facts.context.phase === "headers"
          ? admitBody(known, route, caller, deps)
          : admit(known, route, caller, deps);
      const via = caller.via?.aggregate;
      return via === undefined ? checked : when(checked, (one) => ({ ...one, via }));
    }
    const { rejection, retryAfterSeconds = 5, issuedTo: holder } = verification;
    if (rejection === "issuer_unavailable") {
      const message = "the keys of the token's issuer cannot be fetched now; try again later";
      return deny(route, 503, rejection, message, retryAfter(retryAfterSeconds));
    }
    if (rejection === "too_many_callers") {
      return deny(route, 503, rejection, tooManyCallers, retryAfter(retryAfterSeconds));
    }
    const description = rejectionDescriptions[rejection];
    const decision = unauthorized(route, place(facts, route), { tokenSent: true, description });
    return { decision, reason: rejection, route, ...holder };
  });
}

/** The gateway itself calls a member of an aggregated route: policy decides about the address of the caller, which the token names. */
function asSeenByPolicy(facts: RequestFacts, { via }: Caller): RequestFacts {
  return via === undefined ? facts : { ...facts, sourceIp: via.sourceIp };
}

/**
 * The check before the body, for an authenticated caller: it lets Envoy buffer the body. It adds no credential and does not
 * change the request, so that Envoy's next check, with the body, sees the original request.
 */
function admitBody(facts: RequestFacts, route: Route, caller: Caller, deps: CheckDeps): Checked {
  const denied = authorizeBeforeBody(facts, route, caller, deps);
  if (denied) return { ...denied, ...issuedTo(caller) };
  return {
    decision: { kind: "allow", setHeaders: [], removeHeaders: [], responseHeaders: [], metadata: {} },
    reason: "headers_ok",
    route,
    userId: caller.userId,
  };
}

/** Policy, then the credential, for an authenticated caller. */
function admit(
  facts: RequestFacts,
  route: Route,
  caller: Caller,
  deps: CheckDeps,
): Checked | Promise<Checked> {
  const authorized = authorize(facts, route, caller, deps);
  if (!authorized.ok) return { ...authorized.checked, ...issuedTo(caller) };
  const checked = when(withOwner(caller, route, deps), (known) =>
    withCredential(facts, route, known, authorized, deps),
  );
  const { tool } = authorized;
  return tool === undefined ? checked : when(checked, (one) => ({ ...one, tool }));
}

/** Keeps the owner of a delegated connection only while that person has a sign-in record and policy lets them reach this route. */
function withOwner(caller: Caller, route: Route, deps: CheckDeps): Caller | Promise<Caller> {
  if (caller.delegatedBy === undefined) return caller;
  return when(deps.people.find(caller.delegatedBy), (owner) =>
    owner && deps.policies().forRoute(route.id).mayReach(owner, Date.now())
      ? caller
      : { ...caller, delegatedBy: undefined },
  );
}

function withCredential(
  facts: RequestFacts,
  route: Route,
  caller: Caller,
  authorized: Lists,
  deps: CheckDeps,
): Checked | Promise<Checked> {
  const exchanged = nonInteractiveAuth(route)?.subjectToken === "external_token";
  const callerWithToken =
    exchanged && facts.presented.kind === "bearer"
      ? { ...caller, externalToken: facts.presented.token }
      : caller;
  const aggregated = aggregateOf(route) !== undefined;
  const found = aggregated
    ? signedCall(facts, route, caller, deps)
    : deps.upstreamTokens.find(callerWithToken, route);
  return when(found, (credential) => {
    switch (credential.kind) {
      case "credential":
        return when(aggregated ? [] : deps.assertions.headersFor(caller, route), (assertion) =>
          allow(deps, facts, route, caller, credential, assertion, authorized),
        );
      case "missing": {
        const decision =
          askForConsent(facts, route, caller, credential, deps) ??
          consentMissing(route, place(facts, route), credential.scopes);
        return { decision, reason: credential.reason, route, userId: caller.userId };
      }
      case "unavailable": {
        const { reason, retryAfterSeconds } = credential;
        const headers = retryAfter(retryAfterSeconds);
        const { userId } = caller;
        if (reason === "too_many_callers")
          return { ...deny(route, 503, reason, tooManyCallers, headers), userId };
        if (route.missingSecrets) return { ...deny(route, 503, reason, credentialMissing, headers), userId };
        const denial = deny(route, 503, "upstream_token_unavailable", notUsable(reason), headers);
        return { ...denial, reason, userId };
      }
      case "forbidden":
        return {
          ...deny(
            route,
            403,
            "no_credential",
            `this caller cannot have a credential for this server: ${credential.reason}`,
          ),
          ...issuedTo(caller),
        };
    }
  });
}

/** The sidecar's HTTP port gets the caller instead of a credential: with it, it calls the members (`aggregation/`). */
function signedCall(
  { method, path, sourceIp, requestId }: RequestFacts,
  { id: routeId }: Route,
  { grantId, ...caller }: Caller,
  { signedCalls }: Pick<CheckDeps, "signedCalls">,
): Credential {
  if (grantId === undefined) return { kind: "forbidden", reason: noGrant };
  const call = { routeId, method, path, sourceIp, requestId, caller: { ...caller, grantId } };
  return { kind: "credential", headers: [[signedCallHeader, signedCalls.sign(call)]] };
}

function allow(
  { metadataProofs }: Pick<CheckDeps, "metadataProofs">,
  facts: RequestFacts,
  route: Route,
  caller: Caller,
  credential: Extract<Credential, { kind: "credential" }>,
  assertion: readonly Header[],
  { toolFilter, listId }: Lists,
): Checked | Promise<Checked> {
  const configuredHeaders = route.mcp.kind === "server" ? route.mcp.requestHeaders.set : [];
  const legacyStream = aggregateOf(route) === undefined && mayBeLegacyStream(facts);
  const { headers } = facts;
  const cookies = returnedCookies(headers.cookie, () => metadataProofs.cookiePrefixes(route, caller.userId));
  const serviceAccount = caller.kind === "service_account" ? 1 : undefined;
  const proof = credential.proof?.(facts.method, upstreamUrl(route, facts.path)) ?? [];
  const metadata = {
    route: route.id,
    upstream: route.upstreamHash,
    user: caller.userId,
    client: caller.clientId,
    owner: caller.delegatedBy,
    endpoint: caller.askedPath,
    service_account: serviceAccount,
    machine: serviceAccount,
    connection: credential.connection,
    version: credential.version,
    refreshable: caller.refreshable ? 1 : 0,
    path: facts.path,
    request_id: facts.requestId,
    tool_filter: toolFilter,
    list_id: listId === undefined ? undefined : JSON.stringify(listId),
    first_event: legacyStream ? "1" : undefined,
    new_session: mayStartSession(facts) && asksInCall(route) && caller.via === undefined ? "1" : undefined,
    cookies: cookiesToPass(facts, cookies.full),
  } as const satisfies Omit<AllowMetadata, "proof"> & ProvenMetadata;
  return when<readonly Header[], Checked>(proof, (proofHeaders) => ({
    decision: {
      kind: "allow",
      ...upstreamHeaders(
        facts,
        [...configuredHeaders, ...credential.headers, ...proofHeaders, ...assertion],
        route,
        // ext_proc has to read the tool list that it filters, and a stream's first event.
        {
          alsoRemove: toolFilter === undefined && !legacyStream ? undefined : "accept-encoding",
          cookies: cookies.header,
        },
      ),
      responseHeaders: cors.answer,
      metadata: { ...metadata, proof: metadataProofs.prove(metadata) },
    },
    reason: "ok",
    route,
    userId: caller.userId,
  }));
}

/** How policy restricts tool lists in the response. */
type Lists = Pick<Extract<AuthorizeResult, { ok: true }>, "toolFilter" | "listId">;

/** Pages set no cookies; a client that holds the maximum number may only have some removed. */
function cookiesToPass({ method, headers }: RequestFacts, full: boolean): AllowMetadata["cookies"] {
  if (headers["sec-fetch-mode"] === "navigate") return "none";
  if (full) return "removals";
  return method === "GET" || method === "HEAD" ? "typed" : undefined;
}

const tooManyCallers = "too many callers have come at once; try again later";
const credentialMissing =
  "the gateway's configuration lacks the credential for this server; its administrator has to set it";
const noGrant =
  "its token belongs to no grant of this gateway, which the servers behind this URL need; call each of them at its own URL";
const upstreamMismatch =
  "Envoy routes to a different upstream than the routes file names; one of the two has not loaded the newest configuration yet";
const pathNotNormal = "the path must be in normal form: as sent, it leads to a different route";
const onlySlashes = "a path of several slashes is not served here: use a single slash";
const routeMismatch =
  "Envoy's route and the gateway's disagree; Envoy has not loaded the newest configuration yet";

/** Served without authentication: it is the operator's text, and no credential is involved. */
function publish({ route, text }: NonNullable<ReturnType<RouteTable["textAt"]>>): Checked {
  const headers: Header[] = [
    ["content-type", text.contentType],
    ["content-security-policy", "default-src 'none'"],
    ["access-control-allow-origin", "*"],
  ];
  return { decision: { kind: "reply", status: 200, headers, body: text.body }, reason: "well_known", route };
}

function place(facts: RequestFacts, route: Route) {
  return { path: challengePath(facts, route), requestId: facts.requestId };
}

function noRoute({ host, path }: RequestFacts, hostKnown: boolean): Checked {
  const message = hostKnown
    ? `no route for ${path.slice(0, 200)} on ${host}`
    : `no route for the host ${host}`;
  const code = hostKnown ? "unknown_path" : "unknown_host";
  return { decision: { kind: "deny", status: 404, code, message, headers: [] }, reason: code };
}

function deny(
  route: Route | undefined,
  status: Deny["status"],
  code: string,
  message: string,
  headers: readonly Header[] = [],
): Checked {
  return { decision: { kind: "deny", status, code, message, headers }, reason: code, route };
}

function denyReserved({ id, reason }: ReservedRoute): Checked {
  return {
    ...deny(undefined, 503, reason, unusableMessages[reason], retryAfter(unusableRetrySeconds)),
    reservedId: id,
  };
}

function retryAfter(seconds: number): readonly Header[] {
  return [["retry-after", String(Math.max(0, Math.ceil(seconds)))]];
}
