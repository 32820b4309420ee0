import { errors, type KoaContextWithOIDC, type ResourceServer } from "oidc-provider";
import type { Route } from "../config/route.ts";
import type { RouteTable } from "../config/route-table.ts";
import type { AuthorizationServerDeps } from "./authorization-server-deps.ts";

const oidcScopes = new Set(["openid", "offline_access"]);
const mostScopes = 64;
const longestScope = 2000;

/** The MCP server route that a resource indicator names, if it may be had. */
export function routeOfResource(table: RouteTable, resource: string): Route | undefined {
  const route = table.byResource(resource);
  return route?.enabled && route.mcp.kind === "server" ? route : undefined;
}

/** RFC 8707 on our routes: which tokens a resource indicator stands for. */
export function createResourceServers(deps: Pick<AuthorizationServerDeps, "routes" | "keys">) {
  const { routes, keys } = deps;

  /** @throws errors.InvalidTarget, errors.InvalidScope */
  function info(ctx: KoaContextWithOIDC, resource: string): ResourceServer {
    const { params, entities } = ctx.oidc;
    if (Array.isArray(params?.resource) && params.resource.length > 1) {
      throw new errors.InvalidTarget(
        "a token is good for one resource; ask for each in a request of its own",
      );
    }
    const route = routeOfResource(routes(), resource);
    if (!route) throw new errors.InvalidTarget(`no MCP server is known as ${resource.slice(0, 200)}`);
    if (params && ctx.oidc.route === "authorization") params.scope = withOurScope(params.scope);
    const asked = [params?.scope, entities.AuthorizationCode?.scope, entities.RefreshToken?.scope];
    const scopes = new Set(asked.flatMap((scope) => (typeof scope === "string" ? scope.split(" ") : [])));
    return {
      scope: [...scopes].filter((scope) => !oidcScopes.has(scope)).join(" "),
      audience: route.resource,
      accessTokenFormat: "jwt",
      accessTokenTTL: routes().config.externalTokens.ttl,
      jwt: { sign: { alg: "ES256", kid: keys.signer("external_token").kid } },
    };
  }

  /** For clients of the 2025-03-26 revision, which send no resource: the host's only route, where there is just one. */
  function fallback(
    ctx: KoaContextWithOIDC,
    _client: unknown,
    oneOf?: readonly string[],
  ): string | readonly string[] {
    if (oneOf) return oneOf;
    const route = onlyRouteOf(routes(), ctx.host);
    if (route) return route.resource;
    throw new errors.InvalidTarget(
      "the resource parameter (RFC 8707) is missing, and this host does not say which MCP server is meant",
    );
  }

  return { info, fallback };
}

/** The MCP server of a host that has exactly one. */
export function onlyRouteOf(table: RouteTable, host: string): Route | undefined {
  const candidates = table.config.routes.filter(
    (route) => route.host === host && route.enabled && route.mcp.kind === "server",
  );
  return candidates.length === 1 ? candidates[0] : undefined;
}

/** Whatever a client asks for is kept; one that asks for nothing gets `mcp`. */
function withOurScope(scope: unknown): string {
  const scopes = typeof scope === "string" ? scope.split(" ").filter(Boolean) : [];
  if (scopes.length > mostScopes || (typeof scope === "string" && scope.length > longestScope)) {
    throw new errors.InvalidScope(`at most ${mostScopes} scopes, ${longestScope} characters`, "");
  }
  return (scopes.some((one) => !oidcScopes.has(one)) ? scopes : [...scopes, "mcp"]).join(" ");
}
