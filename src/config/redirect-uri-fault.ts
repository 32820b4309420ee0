/** Most redirect URIs of one client. */
export const mostRedirectUris = 20;
/** Longest name of a client, in characters. */
export const longestClientName = 200;
const longest = 2000;
const loopback = new Set(["localhost", "127.0.0.1", "[::1]"]);
const forbidden = new Set(["javascript:", "vbscript:", "data:", "blob:", "file:", "about:"]);

/**
 * Why no client may have this redirect URI, be it registered, fetched or configured: what such a URI must or must not be.
 * `undefined` when one may: any absolute URI without a fragment (RFC 6749 section 3.1.2); apps have schemes of their own.
 */
export function redirectUriFault(uri: string): string | undefined {
  if (uri.length > longest) return `must not be longer than ${longest} characters`;
  const url = URL.parse(uri);
  if (url === null || uri.includes("#")) return "must be absolute and without a fragment";
  if (url.protocol === "http:" && !loopback.has(url.hostname))
    return "must use https, a loopback address (RFC 8252 section 7.3) or an app's own scheme";
  if (forbidden.has(url.protocol)) return `must not use ${url.protocol}`;
  if (url.username !== "" || url.password !== "") return "must not contain user information";
  return undefined;
}
