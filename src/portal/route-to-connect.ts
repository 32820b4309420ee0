import type { Route } from "../config/route.ts";
import type { RouteTable } from "../config/route-table.ts";

/**
 * The route a connection is for: named by id or URL in `wanted`, else the host's only MCP server, else the one at its root.
 *
 * @returns undefined when none on this host fits.
 */
export function routeToConnect(
  table: RouteTable,
  host: string,
  wanted: string | undefined,
): Route | undefined {
  const servers = table.config.routes.filter(
    (route) => route.host === host && route.enabled && route.mcp.kind === "server",
  );
  if (wanted) {
    const named = table.byId(wanted) ?? table.byResource(wanted);
    return servers.find((route) => route.id === named?.id);
  }
  return servers.length === 1 ? servers[0] : servers.find((route) => route.prefix === "/");
}
