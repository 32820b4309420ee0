import { LRUCache } from "lru-cache";
import type { Route } from "../model/route.ts";
import { besideSegment, normalPath, pathFault, upstreamPath } from "./paths.ts";

/** Characters. Clients send it in their resource, and it is stored with tokens and connections. */
const maxPathLength = 256;

/** The usual endpoint of a server whose `to` has no path. */
const usualPath = "/mcp";

/**
 * The path of a URL below a route's `from`, without a trailing slash: the MCP endpoint of the client that uses it.
 *
 * @param url a URL at or under the route's resource, in any spelling
 * @returns undefined for `from` itself, for `mcp.server.path`, and for paths that cannot be an endpoint
 */
export function pathBelow(route: Pick<Route, "prefix" | "mcp">, url: string): string | undefined {
  const raw = URL.parse(url)?.pathname;
  if (raw === undefined || pathFault(raw) !== undefined) return undefined;
  const path = normalPath(raw);
  const base = route.prefix === "/" ? "" : route.prefix;
  if (!path.startsWith(`${base}/`)) return undefined;
  const below = path.slice(base.length).replace(/\/$/, "");
  if (below.startsWith(`/${besideSegment}/`)) return undefined;
  if (below === "" || below.length > maxPathLength || below === listedPath(route)?.replace(/\/$/, ""))
    return undefined;
  return below;
}

/** Views of a route by requested path: checks use the view of the client's path. */
const views = new WeakMap<Route, LRUCache<string, Route>>();
/** Per route; clients choose the paths. */
const maxViews = 32;

/** The view of a route for a requested path below its `from`. @param below from `pathBelow` */
export function askedAt(route: Route, below: string | undefined): Route {
  if (below === route.askedPath) return route;
  const known = views.get(route) ?? new LRUCache<string, Route>({ max: maxViews });
  views.set(route, known);
  const view = known.get(below ?? "") ?? { ...route, askedPath: below };
  known.set(below ?? "", view);
  return view;
}

/**
 * The upstream's URL of the MCP endpoint, its resource identifier (RFC 8707): the URL that Envoy rewrites the requested path to; without
 * one, that of `mcp.server.path`, else of `from` itself.
 */
export function endpointUrl(route: Route): string {
  const below = route.askedPath ?? listedPath(route);
  if (below === undefined && (route.upstreamPath !== undefined || route.prefix === "/"))
    return route.upstream;
  const base = route.prefix === "/" ? "" : route.prefix;
  const { origin, search } = new URL(route.upstream);
  return origin + upstreamPath(route, base + (below ?? "")) + search;
}

/** Whether the client or the operator sets the endpoint; if not, it is the target of `from` or `usualEndpoint`. */
export function hasExplicitEndpoint(route: Route): boolean {
  return (route.askedPath ?? listedPath(route)) !== undefined;
}

/** The second candidate for an endpoint that is not set. */
function usualEndpoint(route: Route): Route {
  return askedAt(route, usualPath);
}

/** Whether a connection's upstream is an endpoint below `to`, never above or beside it. */
export function isBelowUpstream(route: Pick<Route, "upstream">, upstream: string): boolean {
  const [own = "", query] = route.upstream.split("?");
  const [path = "", otherQuery] = upstream.split("?");
  return query === otherQuery && path.startsWith(`${own.replace(/\/$/, "")}/`);
}

/** `mcp.server.path`, if set. */
export function listedPath({ mcp }: Pick<Route, "mcp">): string | undefined {
  return mcp.kind === "server" && mcp.path !== "/" ? mcp.path : undefined;
}

/** Candidates for the endpoint, in the order to try: one, or the usual one after it if it is not set. */
export function possibleEndpoints(route: Route): readonly [Route, ...Route[]] {
  const usual = usualEndpoint(route);
  return hasExplicitEndpoint(route) || endpointUrl(usual) === endpointUrl(route) ? [route] : [route, usual];
}
