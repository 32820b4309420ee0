/** Whether a protected resource's identifier is a URL itself, but for a slash at the end. */
export function isResource(resource: string, url: string): boolean {
  const bare = (text: string) => URL.parse(text)?.href.replace(/\/$/, "");
  return URL.canParse(resource) && bare(resource) === bare(url);
}

/** Whether a protected resource's identifier covers a URL: same origin, and its path is the URL's or above it (RFC 9728 section 3.3). */
export function resourceCovers(resource: string, url: string): boolean {
  if (!URL.canParse(resource)) return false;
  const outer = new URL(resource);
  const inner = new URL(url);
  if (outer.origin !== inner.origin || outer.hash) return false;
  const path = outer.pathname.replace(/\/$/, "");
  return inner.pathname === path || inner.pathname === `${path}/` || inner.pathname.startsWith(`${path}/`);
}
