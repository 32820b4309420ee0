import type { Route } from "../model/route.ts";
import { askedAt, pathBelow } from "./paths.ts";
import { type ReservedRoute, reservedServers } from "./reserved-routes.ts";
import type { RouteTable } from "./route-table.ts";

/**
 * The enabled MCP server route that a resource indicator names, narrowed to the endpoint in it. An origin without a path names the
 * host's only MCP server, at any path.
 */
export function routeOfResource(table: RouteTable, resource: string): Route | undefined {
  const route = table.byResource(resource) ?? onlyRouteAt(table, resource);
  return route?.enabled && route.mcp.kind === "server"
    ? askedAt(route, pathBelow(route, resource))
    : undefined;
}

/** The stored route that cannot be used now and that a resource indicator names, or may name. Disabled ones do not count. */
export function reservedResource(table: RouteTable, resource: string): ReservedRoute | undefined {
  if (routeOfResource(table, resource) !== undefined) return undefined;
  const named = table.reservedOf(resource);
  if (named !== undefined) return named.enabled ? named : undefined;
  const url = URL.parse(resource);
  return url?.href === `${url?.origin}/` ? reservedServers(table.config, url?.host)[0] : undefined;
}

function onlyRouteAt(table: RouteTable, resource: string): Route | undefined {
  const url = URL.parse(resource);
  if (url === null || url.href !== `${url.origin}/`) return undefined;
  const route = onlyRouteOf(table, url.host);
  return route?.origin === url.origin ? route : undefined;
}

/** Whether two resource indicators differ only in spelling: case of the host, trailing slash, unnecessary escapes. */
export function isSameResource(table: RouteTable, one: string, other: string): boolean {
  const [a, b] = [routeOfResource(table, one), routeOfResource(table, other)];
  return a !== undefined && a.id === b?.id && a.askedPath === b.askedPath;
}

/** The MCP server of a host, or without a host of the gateway, if there is exactly one. */
export function onlyRouteOf(table: RouteTable, host?: string): Route | undefined {
  const candidates = table.config.routes.filter(
    (route) => (host === undefined || route.host === host) && route.enabled && route.mcp.kind === "server",
  );
  const isOnly = candidates.length === 1 && reservedServers(table.config, host).length === 0;
  return isOnly ? candidates[0] : undefined;
}
