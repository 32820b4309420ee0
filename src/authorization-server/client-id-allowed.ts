const longest = 512;

/**
 * Whether a client may be known by the document at this URL (F3.9): https, a path of its own, no query, on an allowed host. Host
 * patterns: `app.example.com`, or `*.example.com` for every name below it; no patterns: any host.
 */
export function clientIdAllowed(clientId: string, domains: readonly string[]): boolean {
  const url = URL.parse(clientId);
  if (url?.protocol !== "https:" || clientId.length > longest) return false;
  if (url.pathname === "/" || url.search !== "" || url.hash !== "" || url.username !== "") return false;
  if (domains.length === 0) return true;
  return domains.some((domain) =>
    domain.startsWith("*.") ? url.hostname.endsWith(domain.slice(1)) : url.hostname === domain,
  );
}
