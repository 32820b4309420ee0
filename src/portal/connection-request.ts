import { callbackHost } from "../config/callback-urls.ts";
import { askedAt, pathBelow } from "../config/paths.ts";
import type { RouteTable } from "../config/route-table.ts";
import type { Route } from "../model/route.ts";

/** A requested connection. */
export interface ConnectionRequest {
  readonly route: Route;
  readonly returnTo: string;
  readonly popup: boolean;
}
/**
 * The route to connect: named by id or URL in `wanted`, else the host's only MCP server, else the one at its root. On the issuer's
 * host, also a named route that is connected there because an application shares its host.
 *
 * @param path the client's MCP endpoint below the route's URL; a URL in `wanted` may also contain it
 * @returns the route narrowed to that endpoint; undefined if no route on this host matches.
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

/**
 * Whether `/mcp/connect` may return a browser to a URL: on a client route's origin or this origin, the portal, the last page of a
 * consent link, or an interaction of our authorization server. Anything else would make us an open redirector.
 *
 * @param origin of this host
 */
export function isAllowedReturn(table: RouteTable, origin: string, target: string): boolean {
  const url = URL.parse(target);
  // `blob:https://host/...` also has an origin, and its content comes from a script.
  if (url === null || !/^https?:$/.test(url.protocol) || url.username || url.password) return false;
  const { prefix } = table.config.paths;
  const { pathname } = url;
  if (url.origin === new URL(table.config.issuer).origin)
    if (
      [`${prefix}/routes`, consentDonePath(prefix)].includes(pathname) ||
      pathname.startsWith("/oauth/interaction/")
    )
      return true;
  if (url.origin === origin) return true;
  return table.config.routes.some(
    (route) => route.mcp.kind === "client" && route.enabled && route.origin === url.origin,
  );
}

/** Path of the last page after a consent link, on the issuer's host. */
export function consentDonePath(prefix: string): string {
  return `${prefix}/mcp/consent/done`;
}

/** The endpoint of a route as a query parameter. */
export function pathOf({ askedPath }: Route): { readonly path?: string } {
  return askedPath === undefined ? {} : { path: askedPath };
}
