import type { Route } from "../model/route.ts";

/** Below a route: places of its upstream that are not below `to`, each behind the proof that the upstream has named it. */
export const besideSegment = ".upstream";

/** The path of ours for a place beside `to`. @param proof `MetadataProofs.provePlace` of it */
export function besidePath(route: Pick<Route, "prefix">, proof: string, path: string): string {
  return `${route.prefix === "/" ? "" : route.prefix}/${besideSegment}/${proof}${path}`;
}

/** Whether a query, without its `?`, names a session, as the endpoints of legacy HTTP+SSE servers do. */
export function namesSession(query: string): boolean {
  return /(?:^|&)[^=&]*session[^=&]*=/i.test(query);
}

/** What a path of ours says of a place beside `to`; undefined: it is another kind of path. */
export function readBesidePath(
  route: Pick<Route, "prefix">,
  path: string,
): { readonly proof: string; readonly path: string } | undefined {
  const base = `${route.prefix === "/" ? "" : route.prefix}/${besideSegment}/`;
  if (!path.startsWith(base)) return undefined;
  const slash = path.indexOf("/", base.length);
  return slash < 0
    ? { proof: "", path: "/" }
    : { proof: path.slice(base.length, slash), path: path.slice(slash) };
}

/**
 * The path an upstream sees for a path of ours, as Envoy's routes rewrite it (`envoy/route-entries.ts`).
 *
 * @param path as the client asked for it, in normal form, at or under the route's prefix.
 */
export function upstreamPath(route: Pick<Route, "prefix" | "upstreamPath">, path: string): string {
  const { prefix, upstreamPath: to } = route;
  const beside = readBesidePath(route, path);
  if (beside) return beside.path;
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
 * The URL an upstream sees for a path of ours, without the query: a DPoP proof's `htu` (RFC 9449 section 4.2).
 *
 * @param path as the client asked for it, at or under the route's prefix.
 */
export function upstreamUrl(route: Route, path: string): string {
  return new URL(route.upstream).origin + upstreamPath(route, path);
}
