import { createHash } from "node:crypto";
import { consentAuth, type Route } from "../model/route.ts";
import type { Config } from "./config.ts";
import { reservedOAuthHosts } from "./reserved-routes.ts";

type AllRoutes = Pick<Config, "routes" | "reserved">;

/** Computes something once per list of routes, which never changes, and belongs to one list of reserved routes. */
function oncePerRoutes<T extends {}>(compute: (all: AllRoutes) => T): (all: AllRoutes) => T {
  const known = new WeakMap<readonly Route[], T>();
  return (all) => {
    const found = known.get(all.routes) ?? compute(all);
    known.set(all.routes, found);
    return found;
  };
}

/** Hosts with several routes that require upstream consent, enabled or not. */
const hostsOfSeveral = oncePerRoutes((all) => {
  const consenting = all.routes.flatMap((route) => (consentAuth(route) === undefined ? [] : [route.host]));
  const byHost = Map.groupBy([...consenting, ...reservedOAuthHosts(all)], (host) => host);
  return new Set([...byHost].flatMap(([host, { length }]) => (length > 1 ? [host] : [])));
});

/** Whether this host serves the callback and the client document without an id: at most one route can use them. */
export function hasOneOAuthRoute(config: AllRoutes, host: string): boolean {
  return !hostsOfSeveral(config).has(host);
}

/**
 * The last segment of a callback URL: one per route and authorization server (RFC 9700 section 4.4.2.2), stable across replicas and
 * restarts.
 *
 * @param issuer absent for a manually registered client, which belongs to one authorization server
 */
export function callbackId(route: Pick<Route, "id">, issuer?: string): string {
  return routePart(route) + digest(["callback", route.id, issuer ?? null]).slice(0, 22);
}

/** Whether an id can be a callback id of this route. */
export function isCallbackIdOf(route: Pick<Route, "id">, id: string): boolean {
  return /^[\w-]{33}$/.test(id) && id.startsWith(routePart(route));
}

const withoutPort = (host: string) => host.replace(/:\d+$/, "");
/** Hosts of applications, without ports. */
const applicationHosts = oncePerRoutes(
  ({ routes, reserved }) =>
    new Set([
      ...routes.flatMap(({ host, mcp }) => (mcp.kind === "client" ? [withoutPort(host)] : [])),
      // One that cannot be read may be an application.
      ...reserved.flatMap(({ at, kind }) => (at && kind !== "server" ? [withoutPort(at.host)] : [])),
    ]),
);

/**
 * The origin where users connect a route, and of its callback: the route's origin, or the issuer's if an application shares the host.
 * The application's scripts can set every cookie of their host and read the URLs that browsers return to.
 */
export function connectOrigin(
  config: Pick<Config, "issuer" | "routes" | "reserved">,
  route: Pick<Route, "host" | "origin">,
): string {
  return applicationHosts(config).has(withoutPort(route.host)) ? new URL(config.issuer).origin : route.origin;
}

/** Host of `connectOrigin`, as in `Route.host`. */
export function callbackHost(
  config: Pick<Config, "issuer" | "routes" | "reserved">,
  route: Pick<Route, "host" | "origin">,
): string {
  return new URL(connectOrigin(config, route)).host;
}

/** The public origin of a host: https, or `http://localhost` if its routes or the issuer use it. */
export function originOfHost({ issuer, routes }: Pick<Config, "issuer" | "routes">, host: string): string {
  const url = new URL(issuer);
  if (url.host === host) return url.origin;
  return routes.find((route) => route.host === host)?.origin ?? `https://${host}`;
}

/** Base URL of the endpoints of the gateway as an OAuth client, on a host. */
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

/** The redirect URI for manual registration at a route's authorization server, or for a manually published document. */
export function redirectUriByHand(
  config: Pick<Config, "issuer" | "paths" | "routes" | "reserved">,
  route: Route,
): string {
  const host = callbackHost(config, route);
  const id = host === route.host && hasOneOAuthRoute(config, host) ? undefined : callbackId(route);
  return callbackUri(config, host, id);
}

/** 64 bits suffice to distinguish the routes of a host; the whole id is compared to verify a callback. */
function routePart(route: Pick<Route, "id">): string {
  return digest(["route", route.id]).slice(0, 11);
}

function digest(parts: readonly (string | null)[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("base64url");
}
