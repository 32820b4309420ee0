import type { Route } from "../model/route.ts";

/** Whether a URL that a route's upstream names is its own: on the origin of one of its `to`, which count as one upstream. */
export function isAtUpstream(route: Pick<Route, "to">, url: string): boolean {
  return atUpstream(route, url) !== undefined;
}

/**
 * A URL that a route's upstream names, where it is the upstream's own. A server behind a TLS terminator calls itself `http`: that is
 * asked for by https, as the upstream is.
 *
 * @returns undefined for another's
 */
export function atUpstream(route: Pick<Route, "to">, url: string): string | undefined {
  const named = URL.parse(url);
  if (named === null || named.username + named.password !== "") return undefined;
  for (const one of route.to) {
    const { origin, protocol, host } = new URL(one);
    if (named.origin === origin) return named.href;
    if (named.protocol === "http:" && protocol === "https:" && named.host === host) {
      return origin + named.pathname + named.search;
    }
  }
  return undefined;
}
