import type { Context } from "koa";
import { normalPath } from "../config/normal-path.ts";
import { normalizeHost } from "../config/normalize-host.ts";
import { pathFault } from "../config/path-fault.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { requestId } from "../server/http/request.ts";
import { onlyRouteOf } from "./resource-servers.ts";

const wellKnown = "/.well-known/oauth-protected-resource";

/**
 * Protected-resource metadata (RFC 9728) of whatever route serves the path that follows the well-known one (F3.1). `resource` is
 * the URL asked about, so that clients that compare exactly (section 3.3) are content; any URL at or under a route names it. The
 * document of a mere host is that of its only MCP server, wherever below it that is: some clients know no other.
 */
export function protectedResourceMetadata(ctx: Context, routes: CurrentRoutes): void {
  const table = routes();
  const asked = ctx.path.slice(wellKnown.length);
  const path = asked === "" ? "" : normalPath(asked);
  const fault = asked === "" ? undefined : pathFault(asked);
  if (fault !== undefined) {
    ctx.status = 400;
    ctx.body = { error: "invalid_request", error_description: fault, request_id: requestId(ctx.req) };
    return;
  }
  const place = path === "" ? "/" : path;
  const found = table.find(ctx.host, place);
  const only = found || place !== "/" ? undefined : onlyRouteOf(table, normalizeHost(ctx.host) ?? "");
  const route = found ?? only;
  if (route?.mcp.kind !== "server" || !route.enabled) {
    ctx.status = 404;
    const error_description = `no MCP server at ${ctx.host}${path || "/"}`;
    ctx.body = { error: "not_found", error_description, request_id: requestId(ctx.req) };
    return;
  }
  ctx.set("cache-control", "public, max-age=300");
  ctx.body = {
    resource: only?.resource ?? route.origin + path,
    authorization_servers: [table.config.issuer],
    scopes_supported: ["mcp"],
    bearer_methods_supported: ["header"],
    resource_name: route.name,
  };
}
