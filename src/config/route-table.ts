import { createHash } from "node:crypto";
import type { Route, WellKnownText } from "../model/route.ts";
import type { Config } from "./config.ts";
import { normalizeHost, normalPath, pathFault } from "./paths.ts";
import type { ReservedRoute } from "./reserved-routes.ts";

/** Routes before their upstream changed, by id, newest first; `until` in ms since the epoch. */
export type FormerRoutes = ReadonlyMap<string, readonly FormerRoute[]>;
export interface FormerRoute {
  readonly route: Route;
  readonly until: number;
}

/** How long Envoy may route to a former upstream, ms. */
const graceMs = 60_000;
/** Former upstreams per route; requests for older ones are denied. */
const maxPerRoute = 4;

/**
 * The former upstreams of `config`'s routes for which requests are still allowed. Removed and disabled routes have none.
 *
 * @param now ms
 */
export function formerRoutes(
  before: Pick<RouteTable, "byId" | "former"> | undefined,
  config: Config,
  now: number,
): FormerRoutes {
  if (before === undefined) return new Map();
  return new Map(
    config.routes.flatMap((route): [string, readonly FormerRoute[]][] => {
      const last = before.byId(route.id);
      if (!last?.enabled || !route.enabled) return [];
      const changed = last.upstreamHash !== route.upstreamHash;
      const former = [
        ...(changed ? [{ route: last, until: now + graceMs }] : []),
        ...(before.former.get(route.id) ?? []),
      ]
        .filter((one) => one.until > now && one.route.upstreamHash !== route.upstreamHash)
        .slice(0, maxPerRoute);
      return former.length === 0 ? [] : [[route.id, former]];
    }),
  );
}

/** An immutable index of a loaded configuration, replaced as a whole on reload. */
export interface RouteTable {
  readonly config: Config;
  /** By id, newest first. */
  readonly former: FormerRoutes;
  /**
   * The route for `host` (authority as received; port and case are normalized) and `path` (without query): longest prefix. Undefined in
   * the place of a reserved route, too.
   */
  find(host: string, path: string): Route | undefined;
  /** Whether any route, or the issuer, has this host. */
  hasHost(host: string): boolean;
  /** The public origin (`https://host[:port]`) of an authority as received; undefined for an unknown host. */
  originOf(host: string): string | undefined;
  /** Whether the gateway itself serves this path (without query) of this host (`ownPaths`); no token is required there. */
  isOwnPath(host: string, path: string): boolean;
  /** The fixed public text at this path (without query) of a host, and its route. */
  textAt(host: string, path: string): { readonly route: Route; readonly text: WellKnownText } | undefined;
  /**
   * The current route, or the one until a minute ago, with the upstream that Envoy routes to: credentials go to their own upstream even
   * while Envoy and the gateway apply a change at different times. Undefined: deny.
   *
   * @param route from `find`
   * @param upstreamHash undefined if Envoy does not send it; requests are then denied for a minute after a change
   * @param now ms
   */
  withUpstream(route: Route, upstreamHash: string | undefined, now?: number): Route | undefined;
  /** The reserved route here, where `find` returns nothing. */
  reservedAt(host: string, path: string): ReservedRoute | undefined;
  /** Whether the host of this route has no other route, reserved ones included. */
  isOnlyRouteOfHost(route: Pick<Route, "host">): boolean;
  byId(id: string): Route | undefined;
  /** Undefined for the id of a route in force. */
  reservedById(id: string): ReservedRoute | undefined;
  /** The route of a resource identifier, or of any URL at or under it (RFC 8707). */
  byResource(resource: string): Route | undefined;
  /** The reserved route of a resource identifier, or of any URL at or under it. */
  reservedOf(resource: string): ReservedRoute | undefined;
  /** The same for the same routes and upstreams, and the same reserved routes: replicas may have different ones. */
  fingerprint(): string;
}

/** Components call this per request, so that a reload takes effect. */
export type CurrentRoutes = () => RouteTable;

/** A path that the gateway itself serves. `prefix` matches the path and everything below it, by whole segments. */
export interface OwnPath {
  readonly match: "exact" | "prefix";
  readonly path: string;
}

/**
 * The paths that the gateway itself serves: Envoy disables ext_authz for exactly these, checks allow them, and no route may use one.
 * Issuer host: the authorization server. Route hosts: the metadata documents. Every host: `paths.prefix`.
 */
export function ownPaths(
  config: Pick<Config, "paths">,
  kind: { readonly issuer: boolean; readonly route: boolean },
): readonly OwnPath[] {
  const paths: OwnPath[] = [
    { match: "prefix", path: config.paths.prefix },
    { match: "prefix", path: "/.well-known/oauth-authorization-server" },
    { match: "prefix", path: "/.well-known/openid-configuration" },
    { match: "prefix", path: "/.well-known/oauth-protected-resource" },
    { match: "exact", path: "/.well-known/pomerium/jwks.json" },
  ];
  if (kind.issuer) paths.push({ match: "prefix", path: "/oauth" });
  return kind.issuer || kind.route ? paths : [];
}

type Place = Route | ReservedRoute;

interface HostEntry {
  readonly origin: string;
  /** By prefix: a lookup takes one probe per path segment, regardless of the number of routes. */
  readonly places: ReadonlyMap<string, Place>;
  /** Longest prefix of the host in segments: longer paths are truncated to it first. */
  readonly depth: number;
  readonly ownExact: ReadonlySet<string>;
  readonly ownPrefixes: readonly string[];
  readonly texts: ReadonlyMap<string, { readonly route: Route; readonly text: WellKnownText }>;
}

/**
 * Indexes a configuration by host and path prefix. Lookups do no I/O, and take constant time for tens of thousands of routes.
 *
 * @param before the replaced table
 * @param replacedAt ms
 */
export function createRouteTable(
  config: Config,
  before?: Pick<RouteTable, "byId" | "former">,
  replacedAt = Date.now(),
): RouteTable {
  const former = formerRoutes(before, config, replacedAt);
  const issuer = new URL(config.issuer);
  const issuerHost = issuer.host;
  const byId = new Map(config.routes.map((route) => [route.id, route]));
  const reserved = new Map(config.reserved.map((one) => [one.id, one]));
  const placesOfHost = new Map<string, Map<string, Place>>([[issuerHost, new Map()]]);
  const put = ({ host, prefix }: Pick<Route, "host" | "prefix">, place: Place) => {
    const places = placesOfHost.get(host) ?? new Map<string, Place>();
    placesOfHost.set(host, places.set(prefix, place));
  };
  for (const one of config.reserved) if (one.at) put(one.at, one);
  for (const route of config.routes) put(route, route);
  const hosts = new Map<string, HostEntry>();
  for (const [host, places] of placesOfHost) {
    const routes = [...places.values()].flatMap((place) => (isReserved(place) ? [] : [place]));
    const own = ownPaths(config, { issuer: host === issuerHost, route: places.size > 0 });
    const path = (kind: OwnPath["match"]) =>
      own.filter(({ match }) => match === kind).map((entry) => entry.path);
    const origin =
      routes[0]?.origin ?? (host === issuerHost ? issuer.origin : originOfReserved(host, places.values()));
    const entry = {
      origin,
      places,
      depth: Math.max(0, ...[...places.keys()].map(segments)),
      ownExact: new Set(path("exact")),
      ownPrefixes: path("prefix"),
      texts: textsOf(routes),
    };
    hosts.set(host, entry);
    // `Host` may include the default port; `normalizeHost` removes that of https.
    if (origin === `http://${host}` && !/:\d+$/.test(host)) hosts.set(`${host}:80`, entry);
  }
  const entry = (authority: string): HostEntry | undefined => {
    const direct = hosts.get(authority);
    if (direct !== undefined) return direct;
    const host = normalizeHost(authority);
    return host === undefined ? undefined : hosts.get(host);
  };
  const placeAt = (authority: string, path: string): Place | undefined => {
    const host = entry(authority);
    return host === undefined || !path.startsWith("/") ? undefined : longestPrefix(host, path);
  };
  const find = (authority: string, path: string): Route | undefined => {
    const place = placeAt(authority, path);
    return place === undefined || isReserved(place) ? undefined : place;
  };
  const reservedAt = (authority: string, path: string): ReservedRoute | undefined => {
    const place = placeAt(authority, path);
    return place !== undefined && isReserved(place) ? place : undefined;
  };

  let fingerprint: string | undefined;

  return {
    config,
    former,
    fingerprint() {
      fingerprint ??= fingerprintOf(config);
      return fingerprint;
    },
    find,
    reservedAt,
    hasHost: (host) => entry(host) !== undefined,
    originOf: (host) => entry(host)?.origin,
    isOwnPath(authority, path) {
      const host = entry(authority);
      if (host === undefined) return false;
      if (host.ownExact.has(path)) return true;
      return host.ownPrefixes.some((prefix) => path === prefix || path.startsWith(`${prefix}/`));
    },
    textAt: (authority, path) =>
      path.startsWith("/.well-known/") ? entry(authority)?.texts.get(path) : undefined,
    withUpstream(route, upstreamHash, now = Date.now()) {
      if (upstreamHash === route.upstreamHash) return route;
      const answered = former.get(route.id)?.filter(({ until }) => until > now) ?? [];
      if (upstreamHash === undefined) return answered.length === 0 ? route : undefined;
      return answered.find((one) => one.route.upstreamHash === upstreamHash)?.route;
    },
    isOnlyRouteOfHost: ({ host }) => hosts.get(host)?.places.size === 1,
    byId: (id) => byId.get(id),
    reservedById: (id) => (byId.has(id) ? undefined : reserved.get(id)),
    byResource(resource) {
      const url = resourceUrl(resource);
      const route = url && find(url.host, normalPath(url.pathname));
      return route?.origin === url?.origin ? route : undefined;
    },
    reservedOf(resource) {
      const url = resourceUrl(resource);
      return url && reservedAt(url.host, normalPath(url.pathname));
    },
  };
}

function isReserved(place: Place): place is ReservedRoute {
  return "reason" in place;
}

/** https, unless a route there has another scheme. */
function originOfReserved(host: string, places: Iterable<Place>): string {
  for (const place of places) if (isReserved(place) && place.route) return place.route.origin;
  return `https://${host}`;
}

function resourceUrl(resource: string): URL | undefined {
  const url = URL.parse(resource);
  if (url === null || url.username + url.password + url.hash !== "") return undefined;
  return pathFault(url.pathname) === undefined ? url : undefined;
}

function fingerprintOf({ routes, reserved }: Config): string {
  const upstreams = routes.map(({ id, upstream }) => `${id} ${upstream}`);
  const all = [...upstreams, ...reserved.map(({ id }) => id)].sort();
  return createHash("sha256").update(JSON.stringify(all)).digest("base64url").slice(0, 16);
}

function textsOf(routes: Iterable<Route>): HostEntry["texts"] {
  const texts = new Map<string, { route: Route; text: WellKnownText }>();
  for (const route of routes)
    if (route.enabled) for (const [path, text] of route.wellKnown ?? []) texts.set(path, { route, text });
  return texts;
}

function longestPrefix(host: HostEntry, path: string): Place | undefined {
  let candidate = cut(path, host.depth);
  while (candidate !== "") {
    const place = host.places.get(candidate);
    if (place !== undefined) return place;
    candidate = candidate.slice(0, candidate.lastIndexOf("/"));
  }
  return host.places.get("/");
}

/** The first `depth` segments of a path; a prefix is never longer. */
function cut(path: string, depth: number): string {
  let end = 0;
  for (let segment = 0; segment < depth; segment += 1) {
    const next = path.indexOf("/", end + 1);
    if (next < 0) return path;
    end = next;
  }
  return path.slice(0, end);
}

function segments(prefix: string): number {
  return prefix === "/" ? 0 : prefix.split("/").length - 1;
}
