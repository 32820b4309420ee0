import { LRUCache } from "lru-cache";
import type { Route } from "../model/route.ts";
import { besideSegment, normalPath, pathFault, upstreamPath } from "./paths.ts";

/** Characters. A client writes it into its resource, and it is kept with tokens and connections. */
const longestPath = 256;

/** Where a server's endpoint is, as a rule, when its `to` names a host only. */
const usualPath = "/mcp";

/**
 * The path below a route's `from` that a URL of it names, without a slash at its end: where the client that names it has its MCP
 * endpoint.
 *
 * @param url a URL at or under the route's resource, in any spelling
 * @returns undefined for `from` itself, for the place that `mcp.server.path` names, and for what cannot be an endpoint
 */
export function pathBelow(route: Pick<Route, "prefix" | "mcp">, url: string): string | undefined {
  const raw = URL.parse(url)?.pathname;
  if (raw === undefined || pathFault(raw) !== undefined) return undefined;
  const path = normalPath(raw);
  const base = route.prefix === "/" ? "" : route.prefix;
  if (!path.startsWith(`${base}/`)) return undefined;
  const below = path.slice(base.length).replace(/\/$/, "");
  if (below.startsWith(`/${besideSegment}/`)) return undefined;
  if (below === "" || below.length > longestPath || below === listedPath(route)?.replace(/\/$/, ""))
    return undefined;
  return below;
}

/** Views of a route by the path that is asked for: every check of a client that names one takes its own. */
const views = new WeakMap<Route, LRUCache<string, Route>>();
/** Of one route; clients choose the paths. */
const mostViews = 32;

/** The route as whoever asked for this path below its `from` sees it. @param below of `pathBelow` */
export function askedAt(route: Route, below: string | undefined): Route {
  if (below === route.askedPath) return route;
  const known = views.get(route) ?? new LRUCache<string, Route>({ max: mostViews });
  views.set(route, known);
  const view = known.get(below ?? "") ?? { ...route, askedPath: below };
  known.set(below ?? "", view);
  return view;
}

/**
 * The upstream's URL of the MCP endpoint, its resource identifier (RFC 8707): where Envoy sends what was asked for below `from`; where
 * nobody has asked, what `mcp.server.path` names, else `from` itself.
 */
export function endpointUrl(route: Route): string {
  const below = route.askedPath ?? listedPath(route);
  if (below === undefined && (route.upstreamPath !== undefined || route.prefix === "/"))
    return route.upstream;
  const base = route.prefix === "/" ? "" : route.prefix;
  const { origin, search } = new URL(route.upstream);
  return origin + upstreamPath(route, base + (below ?? "")) + search;
}

/** Whether client or operator say where the endpoint is; where not, it is where `from` leads or `usualEndpoint`. */
export function hasExplicitEndpoint(route: Route): boolean {
  return (route.askedPath ?? listedPath(route)) !== undefined;
}

/** The other place of an endpoint of which nobody has said where it is. */
function usualEndpoint(route: Route): Route {
  return askedAt(route, usualPath);
}

/** The upstream of a connection to an endpoint of its own: never one above or beside `to`. */
export function isBelowUpstream(route: Pick<Route, "upstream">, upstream: string): boolean {
  const [own = "", query] = route.upstream.split("?");
  const [path = "", otherQuery] = upstream.split("?");
  return query === otherQuery && path.startsWith(`${own.replace(/\/$/, "")}/`);
}

/** What `mcp.server.path` says. */
export function listedPath({ mcp }: Pick<Route, "mcp">): string | undefined {
  return mcp.kind === "server" && mcp.path !== "/" ? mcp.path : undefined;
}

/** Where the endpoint may be, to be tried in this order: one place, or the usual one after it where nobody says. */
export function possibleEndpoints(route: Route): readonly [Route, ...Route[]] {
  const usual = usualEndpoint(route);
  return hasExplicitEndpoint(route) || endpointUrl(usual) === endpointUrl(route) ? [route] : [route, usual];
}
