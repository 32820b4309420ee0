import { createHash } from "node:crypto";
import type { Context } from "koa";
import { ownCookieName } from "../config/cookies.ts";
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

/** One cookie per `state`, so that several consents under way in one browser do not disturb each other (F8.11). */
const nameOf = (ctx: Context, state: string) =>
  ownCookieName(`consent_${createHash("sha256").update(state).digest("base64url").slice(0, 16)}`, ctx.secure);
/** Unsigned: the value is a secret already, and a signature would be a second cookie to clear. */
const attributes = ({ secure }: Context) =>
  ({ path: "/", secure, httpOnly: true, sameSite: "lax", overwrite: true, signed: false }) as const;

/** Binds a consent to the browser that left for it (F8.6). */
export const stateCookie = {
  /** @param ttl seconds */
  set(ctx: Context, state: string, ttl: number): void {
    ctx.cookies.set(nameOf(ctx, state), state, { ...attributes(ctx), maxAge: ttl * 1000 });
  },
  get(ctx: Context, state: string): string | undefined {
    return state ? ctx.cookies.get(nameOf(ctx, state), { signed: false }) : undefined;
  },
  clear(ctx: Context, state: string): void {
    ctx.cookies.set(nameOf(ctx, state), null, attributes(ctx));
  },
};
