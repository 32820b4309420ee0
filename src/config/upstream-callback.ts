import { createHash } from "node:crypto";
import { consentAuth, type Route } from "../model/route.ts";
import type { Config } from "./config.ts";

/** Routes of one host that send people to an authorization server, whether or not they are enabled now. */
function oauthRoutes(config: Pick<Config, "routes">, host: string): readonly Route[] {
  return config.routes.filter((route) => route.host === host && consentAuth(route) !== undefined);
}

/** Whether the callback and the client document without an id are still answered on this host: one route only can be meant. */
export function hasOneOAuthRoute(config: Pick<Config, "routes">, host: string): boolean {
  return oauthRoutes(config, host).length <= 1;
}

/**
 * The last segment of a callback: one per route and authorization server (RFC 9700 section 4.4.2.2), the same on every replica
 * and after every restart.
 *
 * @param issuer absent: a client that is registered by hand, which belongs to one authorization server anyway
 */
export function callbackId(route: Pick<Route, "id">, issuer?: string): string {
  return routePart(route) + digest(["callback", route.id, issuer ?? null]).slice(0, 22);
}

/** Whether an id could be one of this route's callbacks. */
export function isCallbackIdOf(route: Pick<Route, "id">, id: string): boolean {
  return /^[\w-]{33}$/.test(id) && id.startsWith(routePart(route));
}

/** Hosts, without ports, that carry an application. */
const applicationHosts = new WeakMap<readonly Route[], ReadonlySet<string>>();
const withoutPort = (host: string) => host.replace(/:\d+$/, "");

/**
 * Where people connect a route, and where its upstream answers to: the route's own origin, but the issuer's where an application
 * shares the host. Its scripts can set every cookie of their host and read the URLs that browsers return to.
 */
export function connectOrigin(
  config: Pick<Config, "issuer" | "routes">,
  route: Pick<Route, "host" | "origin">,
): string {
  const known = applicationHosts.get(config.routes);
  const shared =
    known ??
    new Set(config.routes.flatMap(({ host, mcp }) => (mcp.kind === "client" ? [withoutPort(host)] : [])));
  if (!known) applicationHosts.set(config.routes, shared);
  return shared.has(withoutPort(route.host)) ? new URL(config.issuer).origin : route.origin;
}

/** Host of `connectOrigin`, as in `Route.host`. */
export function callbackHost(
  config: Pick<Config, "issuer" | "routes">,
  route: Pick<Route, "host" | "origin">,
): string {
  return new URL(connectOrigin(config, route)).host;
}

/** The public origin of a host of ours: https, but `http://localhost` where its routes, or the issuer, say so. */
export function originOfHost({ issuer, routes }: Pick<Config, "issuer" | "routes">, host: string): string {
  const url = new URL(issuer);
  if (url.host === host) return url.origin;
  return routes.find((route) => route.host === host)?.origin ?? `https://${host}`;
}

/** Where everything that concerns us as a client stands on a host. */
export function upstreamClientBase(
  config: Pick<Config, "issuer" | "paths" | "routes">,
  host: string,
): string {
  return `${originOfHost(config, host)}${config.paths.prefix}/mcp/client`;
}

/** @param id absent: the callback of hosts with one OAuth route */
export function callbackUri(
  config: Pick<Config, "issuer" | "paths" | "routes">,
  host: string,
  id?: string,
): string {
  return `${upstreamClientBase(config, host)}/oauth/callback${id === undefined ? "" : `/${id}`}`;
}

/** The redirect URI to register by hand at a route's authorization server, or to publish in a document by hand. */
export function redirectUriByHand(config: Pick<Config, "issuer" | "paths" | "routes">, route: Route): string {
  const host = callbackHost(config, route);
  const id = host === route.host && hasOneOAuthRoute(config, host) ? undefined : callbackId(route);
  return callbackUri(config, host, id);
}

/** 64 bits are enough to tell routes of one host apart; that a callback is the right one is decided by the whole of it. */
function routePart(route: Pick<Route, "id">): string {
  return digest(["route", route.id]).slice(0, 11);
}

function digest(parts: readonly (string | null)[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("base64url");
}
