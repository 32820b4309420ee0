import type { Route } from "../config/route.ts";
import { upstreamPath } from "../config/upstream-path.ts";

/**
 * The URL an upstream sees for a path of ours, without the query: a DPoP proof's `htu` (RFC 9449 section 4.2).
 *
 * @param path as the client asked for it, at or under the route's prefix.
 */
export function upstreamUrl(route: Route, path: string): string {
  return new URL(route.upstream).origin + upstreamPath(route, path);
}
