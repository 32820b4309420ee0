import type { Context } from "koa";
import { normalPath } from "../config/normal-path.ts";
import { pathFault } from "../config/path-fault.ts";
import type { CurrentRoutes } from "../config/route-table.ts";

const wellKnown = "/.well-known/oauth-protected-resource";

/**
 * Protected-resource metadata (RFC 9728) of whatever route serves the path that follows the well-known one (F3.1). `resource` is
 * the URL asked about, so that clients that compare exactly (section 3.3) are content; any URL at or under a route names it.
 */
export function protectedResourceMetadata(ctx: Context, routes: CurrentRoutes): void {
  const table = routes();
  const asked = ctx.path.slice(wellKnown.length);
  const path = asked === "" ? "" : normalPath(asked);
  const fault = asked === "" ? undefined : pathFault(asked);
  const route = fault === undefined ? table.find(ctx.host, path === "" ? "/" : path) : undefined;
  if (route?.mcp.kind !== "server" || !route.enabled) {
    ctx.status = 404;
    ctx.body = { error: "not_found", error_description: `no MCP server at ${ctx.host}${path || "/"}` };
    return;
  }
  ctx.set("cache-control", "public, max-age=300");
  ctx.body = {
    resource: route.origin + path,
    authorization_servers: [table.config.issuer],
    scopes_supported: ["mcp"],
    bearer_methods_supported: ["header"],
    resource_name: route.name,
  };
}
