import type { Route } from "../config/route.ts";

/**
 * The URL an upstream sees for a path of ours, without the query: a DPoP proof's `htu` (RFC 9449 section 4.2).
 *
 * @param path as the client asked for it, at or under the route's prefix.
 */
export function upstreamUrl(route: Route, path: string): string {
  const { origin } = new URL(route.upstream);
  if (route.upstreamPath === undefined) return origin + path;
  const rest = route.prefix === "/" ? path.slice(1) : path.slice(route.prefix.length + 1);
  const base = route.upstreamPath === "/" ? "" : route.upstreamPath;
  return rest === "" ? origin + (base || "/") : `${origin}${base}/${rest}`;
}
