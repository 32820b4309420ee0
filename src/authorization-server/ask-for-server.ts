import type { Context } from "koa";
import type { RouteTable } from "../config/route-table.ts";
import { whichServerPage } from "../pages/which-server-page.ts";
import { sendPage } from "../server/http/send-page.ts";
import { onlyRouteOf, routeOfResource } from "./resource-servers.ts";

/** In characters; nobody types more. */
const longestAddress = 2000;

/**
 * Clients that send no resource (RFC 8707) say nowhere which MCP server they mean, where there are several: the person knows. A page
 * asks for its address, and comes back with the same request and what was entered, which becomes the resource.
 *
 * @param query the authorization request's parameters; the answer of the page is taken out of it
 * @returns whether the page was sent, and the request is answered
 */
export function askForServer(ctx: Context, query: URLSearchParams, table: RouteTable): boolean {
  const entered = query.get("server");
  query.delete("server");
  const isKnown = query.has("resource") || onlyRouteOf(table, ctx.host) || onlyRouteOf(table);
  const isRequest = query.has("client_id") && query.get("response_type") === "code";
  const mayAsk = isRequest && !query.get("prompt")?.split(" ").includes("none");
  // Whoever accepts pages: only browsers are sent here.
  if (isKnown || !mayAsk || !ctx.get("accept").includes("text/html")) return false;
  const resource = entered === null ? undefined : addressOf(entered);
  if (resource !== undefined && routeOfResource(table, resource)) {
    query.set("resource", resource);
    return false;
  }
  const { issuer, paths } = table.config;
  const page = whichServerPage({
    action: `${issuer}/oauth/authorize`,
    parameters: query,
    connections: `${paths.prefix}/routes`,
    isUnknown: entered !== null,
  });
  sendPage(ctx, entered === null ? 200 : 400, page);
  return true;
}

/** People leave the scheme out, and copy spaces and fragments. */
function addressOf(entered: string): string | undefined {
  const text = entered.trim().slice(0, longestAddress);
  const url = URL.parse(/^https?:\/\//i.test(text) ? text : `https://${text}`);
  if (url === null) return undefined;
  url.hash = "";
  return url.href;
}
