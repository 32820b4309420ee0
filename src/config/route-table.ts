import { createHash } from "node:crypto";
import type { Route, WellKnownText } from "../model/route.ts";
import type { Config } from "./config.ts";
import { normalizeHost, normalPath, pathFault } from "./paths.ts";

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

/** A stored route whose entry cannot be decrypted. */
export interface UnreadableRoute {
  readonly id: string;
  /** Host and path prefix. */
  readonly place: string;
}

/** An immutable index of a loaded configuration, replaced as a whole on reload. */
export interface RouteTable {
  readonly config: Config;
  /** By id, newest first. */
  readonly former: FormerRoutes;
  /** The route for `host` (authority as received; port and case are normalized) and `path` (without query): longest prefix. */
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
  /** The id of the stored route here, if its entry cannot be decrypted. */
  unreadableAt(host: string, path: string): string | undefined;
  /** Whether the host of this route has no other route. */
  isOnlyRouteOfHost(route: Pick<Route, "host">): boolean;
  byId(id: string): Route | undefined;
  /** The route of a resource identifier, or of any URL at or under it (RFC 8707). */
  byResource(resource: string): Route | undefined;
  /** The same for the same routes and upstreams: replicas may have different ones. */
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

interface HostEntry {
  readonly origin: string;
  /** By prefix: a lookup takes one probe per path segment, regardless of the number of routes. */
  readonly routes: ReadonlyMap<string, Route>;
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
 * @param unreadable stored routes that are not in `config`, because they cannot be decrypted
 */
export function createRouteTable(
  config: Config,
  before?: Pick<RouteTable, "byId" | "former">,
  replacedAt = Date.now(),
  unreadable: readonly UnreadableRoute[] = [],
): RouteTable {
  const former = formerRoutes(before, config, replacedAt);
  const issuer = new URL(config.issuer);
  const issuerHost = issuer.host;
  const byId = new Map(config.routes.map((route) => [route.id, route]));
  const routesOfHost = new Map<string, Map<string, Route>>([[issuerHost, new Map()]]);
  for (const route of config.routes) {
    const routes = routesOfHost.get(route.host) ?? new Map<string, Route>();
    routesOfHost.set(route.host, routes.set(route.prefix, route));
  }
  const hosts = new Map<string, HostEntry>();
  for (const [host, routes] of routesOfHost) {
    const own = ownPaths(config, { issuer: host === issuerHost, route: routes.size > 0 });
    const path = (kind: OwnPath["match"]) =>
      own.filter(({ match }) => match === kind).map((entry) => entry.path);
    const [first] = routes.values();
    const origin = first?.origin ?? issuer.origin;
    const entry = {
      origin,
      routes,
      depth: Math.max(0, ...[...routes.keys()].map(segments)),
      ownExact: new Set(path("exact")),
      ownPrefixes: path("prefix"),
      texts: textsOf(routes.values()),
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
  const find = (authority: string, path: string): Route | undefined => {
    const host = entry(authority);
    return host === undefined || !path.startsWith("/") ? undefined : longestPrefix(host, path);
  };

  let fingerprint: string | undefined;

  return {
    config,
    former,
    fingerprint() {
      fingerprint ??= fingerprintOf(config.routes);
      return fingerprint;
    },
    find,
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
    unreadableAt(authority, path) {
      if (unreadable.length === 0) return undefined;
      const served = find(authority, path)?.prefix.length ?? -1;
      const host = normalizeHost(authority);
      return unreadable.find(({ place }) => {
        const prefix = place.slice(place.indexOf("/"));
        if (place.slice(0, place.indexOf("/")) !== host || prefix.length <= served) return false;
        return prefix === "/" || path === prefix || path.startsWith(`${prefix}/`);
      })?.id;
    },
    isOnlyRouteOfHost: ({ host }) => hosts.get(host)?.routes.size === 1,
    byId: (id) => byId.get(id),
    byResource(resource) {
      const url = URL.parse(resource);
      if (url === null || url.username + url.password + url.hash !== "") return undefined;
      if (pathFault(url.pathname) !== undefined) return undefined;
      const route = find(url.host, normalPath(url.pathname));
      return route?.origin === url.origin ? route : undefined;
    },
  };
}

function fingerprintOf(routes: readonly Route[]): string {
  const upstreams = routes.map(({ id, upstream }) => `${id} ${upstream}`).sort();
  return createHash("sha256").update(JSON.stringify(upstreams)).digest("base64url").slice(0, 16);
}

function textsOf(routes: Iterable<Route>): HostEntry["texts"] {
  const texts = new Map<string, { route: Route; text: WellKnownText }>();
  for (const route of routes)
    if (route.enabled) for (const [path, text] of route.wellKnown ?? []) texts.set(path, { route, text });
  return texts;
}

function longestPrefix(host: HostEntry, path: string): Route | undefined {
  let candidate = cut(path, host.depth);
  while (candidate !== "") {
    const route = host.routes.get(candidate);
    if (route !== undefined) return route;
    candidate = candidate.slice(0, candidate.lastIndexOf("/"));
  }
  return host.routes.get("/");
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
