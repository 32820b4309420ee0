/**
 * The full name of a cookie of ours. `__Host-` needs `Secure`, which not every browser keeps over plain http: on `http://localhost`,
 * which never leaves the machine, the name stands alone.
 *
 * @param name without its prefix: `session`
 * @param secure whether the host that sets it is https
 */
export function ownCookieName(
  name: string,
  secure: boolean,
  prefix: "__Host-" | "__Secure-" = "__Host-",
): string {
  return `${secure ? prefix : ""}mcp_${name}`;
}

/** Names of cookies of ours: browser session, sign-in, hand-over, consent, oidc-provider's. */
const ours = /^(?:__Host-|__Secure-)?mcp_/i;
/** What a browser or a server may leave out in front of a name: a cookie `=mcp_x=1` without a name comes back as `mcp_x=1`. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are among what is left out
const ignorable = /^[\u0000-\u0020"'=\u007f-\uffff]+/;

/**
 * Whether a cookie is one of ours.
 *
 * @param cookie `name=value`, of a `Cookie` or `Set-Cookie` header, as received.
 */
export function isOwnCookie(cookie: string): boolean {
  return ours.test(cookie.replace(ignorable, ""));
}
