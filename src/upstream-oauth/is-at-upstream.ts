import type { Route } from "../config/route.ts";

/** Whether a URL that a route's upstream names is its own: on the origin of one of its `to`, which count as one upstream. */
export function isAtUpstream(route: Pick<Route, "to">, url: string): boolean {
  const origin = URL.parse(url)?.origin;
  return route.to.some((one) => new URL(one).origin === origin);
}
