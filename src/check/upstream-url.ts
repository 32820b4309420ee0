import type { Route } from "../config/route.ts";

/**
 * The URL an upstream sees for a path of ours, without the query: a DPoP proof's `htu` (RFC 9449 section 4.2).
 *
 * @param path as the client asked for it, at or under the route's prefix.
 */
export function upstreamUrl(route: Route, path: string): string {
  const { origin } = new URL(route.upstream);
  const { prefix, upstreamPath: to } = route;
  if (to === undefined || to === prefix) return origin + path;
  const base = prefix === "/" ? "" : prefix;
  // As Envoy's routes have it: a path that names the upstream's own already is not doubled.
  const doubled = base + to.replace(/\/$/, "");
  const from = path === doubled || path.startsWith(`${doubled}/`) ? doubled : base;
  const rest = path.slice(from.length + 1);
  if (rest === "" && !(from !== "" && path.endsWith("/"))) return origin + to;
  return `${origin}${to.endsWith("/") ? to : `${to}/`}${rest}`;
}
