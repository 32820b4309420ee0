import { LRUCache } from "lru-cache";
import type { Route } from "../model/route.ts";

/**
 * The normal form of a path that documents, audiences, policy and checks use (RFC 3986 section 6.2.2): unreserved characters are
 * not percent-encoded, other escapes are in upper case, slashes do not repeat.
 *
 * @param path valid according to `pathFault`
 */
export function normalPath(path: string): string {
  const merged = path.includes("//") ? path.replace(/\/{2,}/g, "/") : path;
  if (!merged.includes("%")) return merged;
  return merged.replace(/%[0-9a-f]{2}/gi, (encoded) => {
    const character = String.fromCharCode(Number.parseInt(encoded.slice(1), 16));
    return /[A-Za-z0-9\-._~]/.test(character) ? character : encoded.toUpperCase();
  });
}

/**
 * Why a path is rejected, because proxies and servers might interpret it differently; undefined if it is valid. Envoy normalizes paths
 * before checks, so an invalid path is an attack, or Envoy is configured differently.
 */
export function pathFault(path: string): string | undefined {
  if (!path.startsWith("/")) return "the request target is not a path";
  if (/[^!-~]/.test(path)) return "the path has spaces, control or non-ASCII characters";
  if (/["<>\\#]/.test(path)) return "the path has characters that must be percent-encoded";
  if (!path.includes("%")) return dotSegment(path);
  if (/%(?![0-9a-f]{2})/i.test(path)) return "the path has a broken percent-encoding";
  if (/%(2f|5c)/i.test(path)) return "the path has an encoded slash";
  if (/%([01][0-9a-f]|7f)/i.test(path)) return "the path has an encoded control character";
  return dotSegment(path.replace(/%2e/gi, "."));
}

/** Includes `..;`: some servers remove path parameters before they resolve dot segments. */
function dotSegment(path: string): string | undefined {
  return /\/\.{1,2}(?=[/;]|$)/.test(path) ? "the path has dot segments" : undefined;
}

/**
 * Normalizes an authority (`Host`, `:authority`) to the form of routes: lower case, without `:443`. Undefined for authorities that no
 * valid client sends: empty, user info, a trailing dot, non-ASCII, an invalid port. A port with leading zeros is invalid, too: Envoy does
 * not take it for the same host.
 */
export function normalizeHost(authority: string): string | undefined {
  const match = /^([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])(?::([1-9][0-9]{0,4}))?$/.exec(
    authority,
  );
  if (match?.[1] === undefined) return undefined;
  const name = match[1].toLowerCase();
  const port = match[2] === undefined ? 443 : Number(match[2]);
  if (port > 65_535) return undefined;
  return port === 443 ? name : `${name}:${port}`;
}

/** Segment below a route for paths of its upstream outside `to`, followed by a proof that the upstream named the path. */
const upstreamPathSegment = ".upstream";

/** The public path for an upstream path outside `to`. @param proof from `MetadataProofs.proveUpstreamPath` */
export function provenUpstreamPath(route: Pick<Route, "prefix">, proof: string, path: string): string {
  return `${route.prefix === "/" ? "" : route.prefix}/${upstreamPathSegment}/${proof}${path}`;
}

/** Whether a query, without its `?`, names a session, as the endpoints of legacy HTTP+SSE servers do. */
export function namesSession(query: string): boolean {
  return /(?:^|&)[^=&]*session[^=&]*=/i.test(query);
}

/** Parses a public path for an upstream path outside `to`; undefined for other paths. */
export function readProvenUpstreamPath(
  route: Pick<Route, "prefix">,
  path: string,
): { readonly proof: string; readonly path: string } | undefined {
  const base = `${route.prefix === "/" ? "" : route.prefix}/${upstreamPathSegment}/`;
  if (!path.startsWith(base)) return undefined;
  const slash = path.indexOf("/", base.length);
  return slash < 0
    ? { proof: "", path: "/" }
    : { proof: path.slice(base.length, slash), path: path.slice(slash) };
}

/**
 * The upstream's path for a public path, as Envoy's routes rewrite it (`envoy-config/routes.ts`).
 *
 * @param path as requested, in normal form, at or under the route's prefix.
 */
export function upstreamPath(route: Pick<Route, "prefix" | "upstreamPath">, path: string): string {
  const { prefix, upstreamPath: to } = route;
  const proven = readProvenUpstreamPath(route, path);
  if (proven) return proven.path;
  if (to === undefined || to === prefix) return path;
  const base = prefix === "/" ? "" : prefix;
  // A path that names the upstream's own already is not doubled.
  const doubled = base + to.replace(/\/$/, "");
  const from = path === doubled || path.startsWith(`${doubled}/`) ? doubled : base;
  const rest = path.slice(from.length + 1);
  // `from` with a slash is `from`; the upstream's own path has what it was written with.
  if (rest === "" && !(from !== base && path.endsWith("/"))) return to;
  return `${to.endsWith("/") ? to : `${to}/`}${rest}`;
}

/**
 * The upstream's URL for a public path, without the query: a DPoP proof's `htu` (RFC 9449 section 4.2).
 *
 * @param path as requested, at or under the route's prefix.
 */
export function upstreamUrl(route: Route, path: string): string {
  return new URL(route.upstream).origin + upstreamPath(route, path);
}

/** Name and value of a query parameter, still encoded. */
export type QueryPair = readonly [name: string, value: string];

/** The parameters of a query, with or without its `?`, still encoded. */
export function queryPairs(query: string): readonly QueryPair[] {
  return query
    .replace(/^\?/, "")
    .split("&")
    .filter((pair) => pair !== "")
    .map((pair): QueryPair => {
      const equals = pair.indexOf("=");
      return equals < 0 ? [pair, ""] : [pair.slice(0, equals), pair.slice(equals + 1)];
    });
}

/** A decoded parameter name. */
export function decodedName(name: string): string {
  const spaced = name.replaceAll("+", " ");
  try {
    return decodeURIComponent(spaced);
  } catch {
    return spaced;
  }
}

/**
 * The query that an upstream gets: the client's parameters, and those of the route (`Route.upstreamQuery`). Client parameters that a
 * server might read as one of the route's are removed in any spelling: escapes, another case, after a semicolon, with list brackets.
 */
export function upstreamQuery(own: readonly QueryPair[], query: string): string {
  const taken = new Set(own.map(([name]) => plainName(name)));
  const isOwn = ([name, value]: QueryPair) =>
    `${name}=${value}`.split(/;|%3b/i).some((part) => taken.has(plainName(part.split("=")[0] ?? "")));
  const kept = query.split("&").filter((pair) => pair !== "" && !queryPairs(pair).some(isOwn));
  return [...kept, ...own.map(([name, value]) => `${name}=${value}`)].join("&");
}

function plainName(name: string): string {
  return decodedName(name).replace(/\[.*$/s, "").trim().toLowerCase();
}

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
  if (below.startsWith(`/${upstreamPathSegment}/`)) return undefined;
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

/** Path on every host to which Envoy sends calls that the check has marked with `consentHeader`. */
export function consentRequiredPath(prefix: string): string {
  return `${prefix}/mcp/consent-required`;
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
