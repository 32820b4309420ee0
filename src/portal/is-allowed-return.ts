import type { RouteTable } from "../config/route-table.ts";

/**
 * Where `/mcp/connect` may send a browser back to: a URL on a client route's origin, on this one, the portal, or an interaction of
 * our authorization server. Anything else would make us an open redirector.
 *
 * @param origin of this host
 */
export function isAllowedReturn(table: RouteTable, origin: string, target: string): boolean {
  const url = URL.parse(target);
  // `blob:https://host/...` has an origin, too, and what a script has put there.
  if (url === null || !/^https?:$/.test(url.protocol) || url.username || url.password) return false;
  const portal = `${table.config.paths.prefix}/routes`;
  const { pathname } = url;
  if (url.origin === new URL(table.config.issuer).origin)
    if (pathname === portal || pathname.startsWith("/oauth/interaction/")) return true;
  if (url.origin === origin) return true;
  return table.config.routes.some(
    (route) => route.mcp.kind === "client" && route.enabled && route.origin === url.origin,
  );
}
