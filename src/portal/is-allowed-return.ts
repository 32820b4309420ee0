import type { RouteTable } from "../config/route-table.ts";

/**
 * Where `/mcp/connect` may send a browser back to (F5.3): an https URL on a client route's host, on this host, the portal, or
 * an interaction of our authorization server. Anything else would make us an open redirector.
 *
 * @param host as in `Route.host`
 */
export function isAllowedReturn(table: RouteTable, host: string, target: string): boolean {
  if (!URL.canParse(target)) return false;
  const url = new URL(target);
  if (url.protocol !== "https:" || url.username || url.password) return false;
  const issuer = new URL(table.config.issuer);
  const portal = `${table.config.paths.prefix}/routes`;
  if (url.host === issuer.host && (url.pathname === portal || url.pathname.startsWith("/oauth/interaction/")))
    return true;
  if (url.host === host) return true;
  return table.config.routes.some(
    (route) => route.mcp.kind === "client" && route.enabled && route.host === url.host,
  );
}
