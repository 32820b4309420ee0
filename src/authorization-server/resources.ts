import { errors, type KoaContextWithOIDC, type ResourceServer } from "oidc-provider";
import { onlyRouteOf, reservedResource, routeOfResource } from "../config/resources.ts";
import { consentAuth, type Route } from "../model/route.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { orUnavailable, serverUnusable } from "./errors.ts";
import { browserRequest } from "./normalize-requests.ts";

const oidcScopes = new Set(["openid", "offline_access"]);
const maxScopes = 64;
const maxScopesLength = 2000;
/** In characters; the consent page shows required scopes. */
const maxRequiredScopeLength = 100;

type Deps = Pick<AuthorizationServerDeps, "routes" | "keys" | "signIn" | "upstreamTokens">;

/** Resource indicators (RFC 8707) for our routes. */
export function createResourceServers(deps: Deps) {
  const { routes, keys } = deps;

  /** @throws errors.InvalidTarget, errors.InvalidScope */
  async function info(ctx: KoaContextWithOIDC, resource: string): Promise<ResourceServer> {
    const { params, entities, route: endpoint } = ctx.oidc;
    if (Array.isArray(params?.resource) && params.resource.length > 1) {
      throw new errors.InvalidTarget(
        "a token is valid for one resource; request a token for each resource separately",
      );
    }
    const route = routeOfResource(routes(), resource);
    const reserved = reservedResource(routes(), resource);
    if (reserved) throw serverUnusable(reserved);
    // The requested value is not repeated: this may become a page, and the request is untrusted.
    if (!route) throw new errors.InvalidTarget("the requested resource is not an MCP server of this gateway");
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
   * The requested scopes that this route knows. Others are left out, and the token response lists the granted scopes (RFC 6749
   * section 3.3). A client that requests no known scope gets `mcp`.
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
    if (person) for (const scope of await requiredScopes(person.userId, route)) known.add(scope);
    const granted = ofRoute.filter((scope) => known.has(scope));
    if (granted.length > 0) return granted;
    // The required scopes are unknown until the user has signed in: keep the list unchanged until then.
    if (!unknown || person) params.scope = [...asked, "mcp"].join(" ");
    return ["mcp"];
  }

  /** The scopes that the upstream has required of this user: our own challenge named them. */
  async function requiredScopes(userId: string, route: Route): Promise<readonly string[]> {
    const { missingScopes } = await orUnavailable(deps.upstreamTokens.connectionState(userId, route));
    return missingScopes.filter((scope) => scope.length <= maxRequiredScopeLength);
  }

  /**
   * For clients that send no resource: the only route of the host, or else of the gateway. Guessing among several could issue a token
   * for a server that the user did not choose. Browsers have been asked before.
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
      "the resource parameter (RFC 8707) is missing, and this gateway does not serve exactly one MCP server; send the resource from the protected resource metadata of the server",
    );
  }

  return { info, fallback };
}

/** `mcp` and the configured scopes of the route's upstream: our challenges name them. */
function routeScopes(route: Route): readonly string[] {
  return ["mcp", ...(consentAuth(route)?.scopes ?? [])];
}

/** @throws errors.InvalidScope */
function askedScopes(scope: unknown): string[] {
  const scopes = scopesOf(scope);
  if (scopes.length > maxScopes || (typeof scope === "string" && scope.length > maxScopesLength)) {
    throw new errors.InvalidScope(`at most ${maxScopes} scopes, ${maxScopesLength} characters`, "");
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
