import type { Config } from "./config.ts";
import type { FormerRoutes } from "./former-routes.ts";
import type { Route } from "./route.ts";
import type { WellKnownText } from "./well-known.ts";

/** An immutable index over one loaded configuration. Replaced as a whole on reload (F1.6). */
export interface RouteTable {
  readonly config: Config;
  /** By id, newest first. */
  readonly former: FormerRoutes;
  /** Route that serves `host` (authority as received; port and case are normalised) and `path` (no query): longest prefix. */
  find(host: string, path: string): Route | undefined;
  /** Whether any route, or the issuer, has this host. */
  hasHost(host: string): boolean;
  /** The public origin (`https://host[:port]`) behind an authority as received; undefined for a host that is not ours. */
  originOf(host: string): string | undefined;
  /** Whether we answer this path (no query) of this host ourselves (`own-paths.ts`); no token is needed there. */
  isOwnPath(host: string, path: string): boolean;
  /** The fixed public text that a route serves at this path (no query) of its host, and the route. */
  textAt(host: string, path: string): { readonly route: Route; readonly text: WellKnownText } | undefined;
  /**
   * The route as it stands, or stood until a minute ago, with the upstream that Envoy says it routes to: a credential goes to
   * the upstream that it is for, while Envoy and we take a change at different moments. Undefined: deny.
   *
   * @param route of `find`.
   * @param upstreamHash undefined where Envoy cannot say it; nothing is answered then for a minute after a change.
   * @param now ms
   */
  leadingTo(route: Route, upstreamHash: string | undefined, now?: number): Route | undefined;
  /** Whether the host of this route of ours has no other route. */
  isOnlyRouteOfHost(route: Pick<Route, "host">): boolean;
  byId(id: string): Route | undefined;
  /** Route that a resource identifier names: its own, or any URL at or under it (RFC 8707). */
  byResource(resource: string): Route | undefined;
}

/** Rooms keep this and call it per request, so that a reload needs no rewiring. */
export type CurrentRoutes = () => RouteTable;
