import type { Route } from "./route.ts";

/**
 * The path an upstream sees for a path of ours, as Envoy's routes rewrite it (`envoy/route-entries.ts`).
 *
 * @param path as the client asked for it, in normal form, at or under the route's prefix.
 */
export function upstreamPath(route: Pick<Route, "prefix" | "upstreamPath">, path: string): string {
  const { prefix, upstreamPath: to } = route;
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
