import type { Route, WellKnownText } from "../model/route.ts";
import type { Config } from "./config.ts";
import { normalizeHost, normalPath, pathFault } from "./paths.ts";

/** Routes as they stood before their upstream changed, by id, newest first; `until` in ms since the epoch. */
export type FormerRoutes = ReadonlyMap<string, readonly FormerRoute[]>;
export interface FormerRoute {
  readonly route: Route;
  readonly until: number;
}

/** How long Envoy may route to a former upstream, ms. */
const graceMs = 60_000;
/** Former upstreams of one route; older ones are denied. */
const mostPerRoute = 4;

/**
 * Which former upstreams of `config`'s routes are still answered for. A route that was removed or disabled has none.
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
        .slice(0, mostPerRoute);
      return former.length === 0 ? [] : [[route.id, former]];
    }),
  );
}

/** An immutable index over one loaded configuration. Replaced as a whole on reload. */
export interface RouteTable {
  readonly config: Config;
  /** By id, newest first. */
  readonly former: FormerRoutes;
  /** Route that serves `host` (authority as received; port and case are normalised) and `path` (no query): longest prefix. */
  find(host: string, path: string): Route | undefined;
  /** Whether any route, or the issuer, has this host. */
  hasHost(host: string): boolean;
  /** The public origin (`https://host[:port]`) behind an authority as received; undefined for a host that is not ours. */
  originOf(host: string): string | undefined;
  /** Whether we answer this path (no query) of this host ourselves (`own-paths.ts`); no token is needed there. */
  isOwnPath(host: string, path: string): boolean;
  /** The fixed public text that a route serves at this path (no query) of its host, and the route. */
  textAt(host: string, path: string): { readonly route: Route; readonly text: WellKnownText } | undefined;
  /**
   * The route as it stands, or stood until a minute ago, with the upstream that Envoy says it routes to: a credential goes to
   * the upstream that it is for, while Envoy and we take a change at different moments. Undefined: deny.
   *
   * @param route of `find`.
   * @param upstreamHash undefined where Envoy cannot say it; nothing is answered then for a minute after a change.
   * @param now ms
   */
  leadingTo(route: Route, upstreamHash: string | undefined, now?: number): Route | undefined;
  /** Whether the host of this route of ours has no other route. */
  isOnlyRouteOfHost(route: Pick<Route, "host">): boolean;
  byId(id: string): Route | undefined;
  /** Route that a resource identifier names: its own, or any URL at or under it (RFC 8707). */
  byResource(resource: string): Route | undefined;
}

/** Rooms keep this and call it per request, so that a reload needs no rewiring. */
export type CurrentRoutes = () => RouteTable;

/** A path we answer ourselves. `prefix` matches the path and everything below it, never `/pathological`. */
export interface OwnPath {
  readonly match: "exact" | "prefix";
  readonly path: string;
}

/**
 * The one list of paths that we answer ourselves: Envoy turns ext_authz off for exactly these, `check/` lets them pass, and no
 * route may claim one. Issuer host: our authorization server. Route hosts: the metadata documents. Every host: `paths.prefix`.
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
  /** By prefix: a look-up costs as many probes as the path has segments, however many routes there are. */
  readonly routes: ReadonlyMap<string, Route>;
  /** Longest prefix of the host in segments: longer paths are cut to it first. */
  readonly depth: number;
  readonly ownExact: ReadonlySet<string>;
  readonly ownPrefixes: readonly string[];
  readonly texts: ReadonlyMap<string, { readonly route: Route; readonly text: WellKnownText }>;
}

/**
 * Indexes a configuration by host and path prefix. Look-ups do no I/O and stay flat for tens of thousands of routes.
 *
 * @param before the table that this one replaces.
 * @param replacedAt when, ms.
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
    // The default port may stand in `Host`; that of https is left out by `normalizeHost`.
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

  return {
    config,
    former,
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
    leadingTo(route, upstreamHash, now = Date.now()) {
      if (upstreamHash === route.upstreamHash) return route;
      const answered = former.get(route.id)?.filter(({ until }) => until > now) ?? [];
      if (upstreamHash === undefined) return answered.length === 0 ? route : undefined;
      return answered.find((one) => one.route.upstreamHash === upstreamHash)?.route;
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

/** The first `depth` segments of a path; no more than that can be a prefix. */
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
