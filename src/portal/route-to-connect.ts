import { askedAt, pathBelow } from "../config/endpoint.ts";
import type { RouteTable } from "../config/route-table.ts";
import { callbackHost } from "../config/upstream-callback.ts";
import type { Route } from "../model/route.ts";

/**
 * The route a connection is for: named by id or URL in `wanted`, else the host's only MCP server, else the one at its root. On the
 * issuer's host also a named one that is connected there because an application shares its own host.
 *
 * @param path below the route's URL, where the client's MCP endpoint is; a URL in `wanted` says it, too
 * @returns as seen from there; undefined when none on this host fits.
 */
export function routeToConnect(
  table: RouteTable,
  host: string,
  wanted: string | undefined,
  path?: string,
): Route | undefined {
  const route = named(table, host, wanted);
  return route && askedAt(route, pathBelow(route, path ? route.resource + path : (wanted ?? "")));
}

function named(table: RouteTable, host: string, wanted: string | undefined): Route | undefined {
  const servers = table.config.routes.filter((route) => route.enabled && route.mcp.kind === "server");
  if (wanted) {
    const named = table.byId(wanted) ?? table.byResource(wanted);
    const isHere = (route: Route) => route.host === host || callbackHost(table.config, route) === host;
    return servers.find((route) => route.id === named?.id && isHere(route));
  }
  const own = servers.filter((route) => route.host === host);
  return own.length === 1 ? own[0] : own.find((route) => route.prefix === "/");
}
