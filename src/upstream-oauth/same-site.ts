import { parse } from "tldts";

/** The registrable domain of a public name, by the public suffix list and its private part; undefined for all other hosts. */
function registrableDomain(url: URL): string | undefined {
  const { domain, isIcann, isPrivate } = parse(url.hostname, { allowPrivateDomains: true });
  return (isIcann || isPrivate) && domain ? domain : undefined;
}

/** Whether two URLs are of one site: one registrable domain, else one host. */
export function sameSite(one: string, other: string): boolean {
  return alike(one, other, (url) => url.hostname);
}

/** Whether two URLs are surely of one owner: one registrable domain, else one host and port. */
export function sameOwner(one: string, other: string): boolean {
  return alike(one, other, (url) => url.host);
}

function alike(one: string, other: string, otherwise: (url: URL) => string): boolean {
  const [a, b] = [URL.parse(one), URL.parse(other)];
  if (!a || !b) return false;
  return (registrableDomain(a) ?? otherwise(a)) === (registrableDomain(b) ?? otherwise(b));
}
