import type { Route } from "../model/route.ts";

/** Whether a protected resource's identifier is a URL itself, but for a slash at the end of its path. */
export function isResource(resource: string, url: string): boolean {
  const bare = bareHref(resource);
  return bare !== undefined && bare === bareHref(url);
}

/**
 * Whether a protected resource's identifier covers a URL: same origin, and its path is the URL's or above it (RFC 9728 section 3.3). One
 * with a query is of exactly that path and query: servers tell tenants apart by it.
 */
export function resourceCovers(resource: string, url: string): boolean {
  if (!URL.canParse(resource)) return false;
  const outer = new URL(resource);
  const inner = new URL(url);
  if (outer.search !== "") return isResource(resource, url);
  if (outer.origin !== inner.origin || outer.username + outer.password + outer.hash !== "") return false;
  const path = outer.pathname.replace(/\/$/, "");
  return inner.pathname === path || inner.pathname === `${path}/` || inner.pathname.startsWith(`${path}/`);
}

function bareHref(text: string): string | undefined {
  const url = URL.parse(text);
  if (url === null) return undefined;
  url.pathname = url.pathname.replace(/\/$/, "");
  return url.href;
}

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
