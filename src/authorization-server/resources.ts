import { errors, type KoaContextWithOIDC, type ResourceServer } from "oidc-provider";
import { askedAt, pathBelow } from "../config/endpoint.ts";
import type { RouteTable } from "../config/route-table.ts";
import { consentAuth, type Route } from "../model/route.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { orUnavailable } from "./errors.ts";
import { browserRequest } from "./requests.ts";

const oidcScopes = new Set(["openid", "offline_access"]);
const mostScopes = 64;
const longestScope = 2000;
/** In characters; the consent page shows it. */
const longestDemandedScope = 100;

/**
 * The MCP server route that a resource indicator names, if it may be had, as seen from the endpoint that it names. The mere origin of
 * a host names its only MCP server, wherever below it that is.
 */
export function routeOfResource(table: RouteTable, resource: string): Route | undefined {
  const route = table.byResource(resource) ?? onlyRouteAt(table, resource);
  return route?.enabled && route.mcp.kind === "server"
    ? askedAt(route, pathBelow(route, resource))
    : undefined;
}

function onlyRouteAt(table: RouteTable, resource: string): Route | undefined {
  const url = URL.parse(resource);
  if (url === null || url.href !== `${url.origin}/`) return undefined;
  const route = onlyRouteOf(table, url.host);
  return route?.origin === url.origin ? route : undefined;
}

/** Whether two resource indicators differ in their spelling only: host in another case, a slash at the end, needless escapes. */
export function isSameResource(table: RouteTable, one: string, other: string): boolean {
  const [a, b] = [routeOfResource(table, one), routeOfResource(table, other)];
  return a !== undefined && a.id === b?.id && a.askedPath === b.askedPath;
}

type Deps = Pick<AuthorizationServerDeps, "routes" | "keys" | "signIn" | "upstreamTokens">;

/** RFC 8707 on our routes: which tokens a resource indicator stands for. */
export function createResourceServers(deps: Deps) {
  const { routes, keys } = deps;

  /** @throws errors.InvalidTarget, errors.InvalidScope */
  async function info(ctx: KoaContextWithOIDC, resource: string): Promise<ResourceServer> {
    const { params, entities, route: endpoint } = ctx.oidc;
    if (Array.isArray(params?.resource) && params.resource.length > 1) {
      throw new errors.InvalidTarget(
        "a token is good for one resource; ask for each in a request of its own",
      );
    }
    const route = routeOfResource(routes(), resource);
    // What was asked for is not repeated: this may become a page of ours, and anybody writes such a request.
    if (!route)
      throw new errors.InvalidTarget("the resource that was asked for is no MCP server of this gateway");
    const authorizes = params !== undefined && (endpoint === "authorization" || endpoint === "resume");
    const scopes = authorizes
      ? await scopesToGrant(ctx, params, route)
      : [params?.scope, entities.AuthorizationCode?.scope, entities.RefreshToken?.scope].flatMap(scopesOf);
    return {
      scope: [...new Set(scopes)].filter((scope) => !oidcScopes.has(scope)).join(" "),
      audience: route.resource,
      accessTokenFormat: "jwt",
      accessTokenTTL: routes().config.externalTokens.ttl,
      jwt: { sign: { alg: "ES256", kid: keys.signer("external_token").kid } },
    };
  }

  /**
   * Of the scopes that a client asks for, those that this route knows; the others are left out, and the token answer says what
   * is left (RFC 6749 section 3.3). A client that asks for none that is known gets `mcp`.
   */
  async function scopesToGrant(
    ctx: KoaContextWithOIDC,
    params: NonNullable<KoaContextWithOIDC["oidc"]["params"]>,
    route: Route,
  ): Promise<readonly string[]> {
    const asked = askedScopes(params.scope);
    const ofRoute = asked.filter((scope) => !oidcScopes.has(scope));
    const ofStep = ctx.oidc.entities.Interaction?.prompt.details.scopes;
    const known = new Set<unknown>(Array.isArray(ofStep) ? ofStep : routeScopes(route));
    const unknown = !Array.isArray(ofStep) && ofRoute.some((scope) => !known.has(scope));
    const request = browserRequest.current();
    const person = unknown && request ? await orUnavailable(deps.signIn.person(request.ctx)) : undefined;
    if (person) for (const scope of await demanded(person.userId, route)) known.add(scope);
    const granted = ofRoute.filter((scope) => known.has(scope));
    if (granted.length > 0) return granted;
    // Before anybody has signed in, what is demanded of them is not known: the list stays as it is until then.
    if (!unknown || person) params.scope = [...asked, "mcp"].join(" ");
    return ["mcp"];
  }

  /** What the upstream has demanded of this person: our own challenge named it. */
  async function demanded(userId: string, route: Route): Promise<readonly string[]> {
    const { missingScopes } = await orUnavailable(deps.upstreamTokens.connectionState(userId, route));
    return missingScopes.filter((scope) => scope.length <= longestDemandedScope);
  }

  /**
   * For clients that send no resource: the host's only route, where there is just one, or else the only one of the whole gateway. With
   * several a guess would give out a token for another server than the one that the person means to use; browsers have been asked.
   */
  function fallback(
    ctx: KoaContextWithOIDC,
    _client: unknown,
    oneOf?: readonly string[],
  ): string | readonly string[] {
    if (oneOf) return oneOf;
    const route = onlyRouteOf(routes(), ctx.host) ?? onlyRouteOf(routes());
    if (route) return route.resource;
    throw new errors.InvalidTarget(
      "the resource parameter (RFC 8707) is missing, and this gateway does not serve exactly one MCP server; send resource with the URL of the one that is meant, as its protected resource metadata says it",
    );
  }

  return { info, fallback };
}

/** The MCP server of a host that has exactly one; without a host, of a gateway that has. */
export function onlyRouteOf(table: RouteTable, host?: string): Route | undefined {
  const candidates = table.config.routes.filter(
    (route) => (host === undefined || route.host === host) && route.enabled && route.mcp.kind === "server",
  );
  return candidates.length === 1 ? candidates[0] : undefined;
}

/** `mcp`, and the scopes that the operator has set for the route's upstream: our challenges name them. */
function routeScopes(route: Route): readonly string[] {
  return ["mcp", ...(consentAuth(route)?.scopes ?? [])];
}

/** @throws errors.InvalidScope */
function askedScopes(scope: unknown): string[] {
  const scopes = scopesOf(scope);
  if (scopes.length > mostScopes || (typeof scope === "string" && scope.length > longestScope)) {
    throw new errors.InvalidScope(`at most ${mostScopes} scopes, ${longestScope} characters`, "");
  }
  return scopes;
}

function scopesOf(scope: unknown): string[] {
  return typeof scope === "string" ? scope.split(" ").filter(Boolean) : [];
}

/** The MCP server route that an authorization request is for. */
export function routeOfRequest(
  ctx: KoaContextWithOIDC,
  deps: Pick<AuthorizationServerDeps, "routes">,
): Route | undefined {
  const [resource] = Object.keys(ctx.oidc.resourceServers ?? {});
  return resource === undefined ? undefined : routeOfResource(deps.routes(), resource);
}
