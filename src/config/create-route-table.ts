import type { Config } from "./config.ts";
import { formerRoutes } from "./former-routes.ts";
import { normalPath } from "./normal-path.ts";
import { normalizeHost } from "./normalize-host.ts";
import { type OwnPath, ownPaths } from "./own-paths.ts";
import { pathFault } from "./path-fault.ts";
import type { Route } from "./route.ts";
import type { RouteTable } from "./route-table.ts";
import type { WellKnownText } from "./well-known.ts";

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
