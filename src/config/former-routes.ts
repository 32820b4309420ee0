import type { Config } from "./config.ts";
import type { Route } from "./route.ts";
import type { RouteTable } from "./route-table.ts";

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
