import type { Route } from "../model/route.ts";
import { bearerChallenge } from "../server/http/bearer-challenge.ts";
import { authorize } from "./authorize.ts";
import { type CheckDeps, type Checked, type SignedIn, when } from "./check-types.ts";
import type { Header } from "./decision.ts";
import type { RequestFacts } from "./request.ts";
import { upstreamHeaders } from "./upstream-headers.ts";

/** A request to an application behind a client route: requires a browser session, and adds an external token for the MCP routes. */
export function checkClientRoute(
  facts: RequestFacts,
  route: Route,
  deps: CheckDeps,
): Checked | Promise<Checked> {
  const { cookie } = facts.headers;
  const session = cookie ? deps.sessionFromCookieHeader(cookie, route.host) : undefined;
  return when(session, (person) =>
    person ? admit(facts, route, person, deps) : signInFirst(facts, route, deps),
  );
}

function admit(
  facts: RequestFacts,
  route: Route,
  person: SignedIn,
  deps: CheckDeps,
): Checked | Promise<Checked> {
  const authorized = authorize(facts, route, person, deps);
  if (!authorized.ok) return authorized.checked;
  const audience = reachableResources(route, person, deps);
  // A person who may not reach any MCP server is still signed in to the application: identity, but no token.
  const minted = audience.length > 0 ? deps.externalTokens.forSession(person, route, audience) : undefined;
  return when(minted, (token) =>
    when(deps.assertions.headersFor(person, route), (assertion) => {
      const authorization: Header[] = token === undefined ? [] : [["authorization", `Bearer ${token}`]];
      return {
        decision: {
          kind: "allow",
          ...upstreamHeaders(facts, [...authorization, ...assertion], route),
          responseHeaders: [],
          metadata: {},
        },
        reason: "ok",
        route,
        userId: person.userId,
      };
    }),
  );
}

/** Resources of the MCP routes this person may reach and this client route may use. */
function reachableResources(route: Route, person: SignedIn, deps: CheckDeps): readonly string[] {
  const table = deps.routes();
  const policies = deps.policies();
  const wanted = route.mcp.kind === "client" ? route.mcp.routes : undefined;
  const allowed = wanted && new Set(wanted.map((name) => table.byId(name) ?? table.byResource(name)));
  return table.config.routes
    .filter((candidate) => candidate.mcp.kind === "server" && candidate.enabled)
    .filter((candidate) => !allowed || allowed.has(candidate))
    .filter((candidate) => policies.forRoute(candidate.id).mayReach(person, Date.now()))
    .map((candidate) => candidate.resource);
}

/** Redirects a person to sign-in and back; a script gets a 401 that it can read. */
function signInFirst(facts: RequestFacts, route: Route, deps: CheckDeps): Checked {
  const { method, headers, path, query, requestId } = facts;
  const navigation =
    (method === "GET" || method === "HEAD") &&
    (headers["sec-fetch-mode"] === undefined || headers["sec-fetch-mode"] === "navigate") &&
    (headers.accept ?? "").toLowerCase().includes("text/html");
  if (navigation) {
    const signIn = new URL(`${deps.routes().config.paths.prefix}/sign_in`, route.origin);
    signIn.searchParams.set("return_to", query === "" ? path : `${path}?${query}`);
    return {
      decision: { kind: "redirect", location: signIn.href, headers: [] },
      reason: "no_session",
      route,
    };
  }
  const { wwwAuthenticate, body } = bearerChallenge({
    error: "invalid_token",
    code: "unauthorized",
    description: "sign in with a browser first",
    requestId,
  });
  return {
    decision: { kind: "challenge", wwwAuthenticate, body: JSON.stringify(body), headers: [] },
    reason: "no_session",
    route,
  };
}
