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
