import type { KoaContextWithOIDC } from "oidc-provider";
import type { Route } from "../model/route.ts";
import type { AuthorizationServerDeps } from "./authorization-server-deps.ts";
import { routeOfResource } from "./resource-servers.ts";

/** The MCP server route that an authorization request is for. */
export function routeOfRequest(
  ctx: KoaContextWithOIDC,
  deps: Pick<AuthorizationServerDeps, "routes">,
): Route | undefined {
  const [resource] = Object.keys(ctx.oidc.resourceServers ?? {});
  return resource === undefined ? undefined : routeOfResource(deps.routes(), resource);
}
