import type { Route } from "../model/route.ts";
import { pathFault, upstreamPath } from "./paths.ts";

/**
 * The full name of a cookie of the gateway. `__Host-` requires `Secure`, which some browsers do not accept over plain http: on
 * `http://localhost` the name has no prefix.
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

/** Cookies of the gateway: browser session, sign-in, handover, consent, oidc-provider's. */
const ownCookie = /^(?:__Host-|__Secure-)?mcp_/i;
/** Characters before a name that browsers or servers may drop: a nameless cookie `=mcp_x=1` is sent back as `mcp_x=1`. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: some parsers drop them
const ignorable = /^[\u0000-\u0020"'=\u007f-\uffff]+/;

/**
 * Whether a cookie belongs to the gateway.
 *
 * @param cookie `name=value`, of a `Cookie` or `Set-Cookie` header, as received.
 */
export function isOwnCookie(cookie: string): boolean {
  return ownCookie.test(cookie.replace(ignorable, ""));
}

/** Limit of upstream cookies per route, per response and per client. */
export const maxCookies = 16;
export const maxCookieBytes = 8 * 1024;
/** Limit of browsers: name, value and attributes. */
const maxCookieLength = 4096;

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$/;
const printable = /^[ -:<-~]*$/;
/** Attributes that are kept; `Domain` would extend the cookie to other hosts, and the gateway sets `Path` and `Secure`. */
const kept = /^(?:expires|max-age|samesite|httponly|partitioned|priority)$/;

type Mapped = Pick<Route, "origin" | "prefix" | "upstreamPath">;

/** Prefix of upstreams' cookies. It is reserved: applications can neither set nor read them. */
export const upstreamCookiePrefix = "mcp_up_";

/** The cookies that go to a route's upstream. */
export interface ReturnedCookies {
  /** Absent if there is none for this route. */
  readonly header?: string;
  /** Whether the client has as many as a route may set. */
  readonly full: boolean;
}

/**
 * The cookies that the upstream of a route has set, under their original names.
 *
 * @param header `Cookie` of the client
 * @param prefixes `MetadataProofs.cookiePrefixes`; called only if there is such a cookie
 */
export function returnedCookies(
  header: string | undefined,
  prefixes: () => readonly string[],
): ReturnedCookies {
  if (!header?.includes(upstreamCookiePrefix)) return { full: false };
  const known = prefixes();
  const own = header.split(";").flatMap((pair) => {
    const text = pair.trim();
    const prefix = known.find((one) => text.startsWith(one));
    return prefix === undefined ? [] : [text.slice(prefix.length)];
  });
  if (own.length === 0) return { full: false };
  const joined = own.join("; ");
  return { header: joined, full: own.length >= maxCookies || joined.length >= maxCookieBytes };
}

/**
 * Rewrites the `Set-Cookie` of an MCP server for clients: a prefixed name, this host only, `Path` at or below the route's. Undefined if
 * it is invalid, uses a name of the gateway, or is too long.
 *
 * @param prefix the newest of `MetadataProofs.cookiePrefixes`
 * @param asked path of the request, in normal form.
 */
export function cookieForClient(
  route: Mapped,
  prefix: string,
  asked: string,
  setCookie: string,
): string | undefined {
  if (isOwnCookie(setCookie)) return undefined;
  const [pair = "", ...attributes] = setCookie.split(";");
  const equals = pair.indexOf("=");
  const name = pair.slice(0, Math.max(0, equals)).trim();
  const value = pair.slice(equals + 1).trim();
  if (!token.test(name) || !printable.test(value)) return undefined;
  const https = route.origin.startsWith("https:");
  let path: string | undefined;
  const copied: string[] = [];
  for (const attribute of attributes) {
    const [key = "", ...more] = attribute.split("=");
    const word = key.trim().toLowerCase();
    const value = more.join("=").trim();
    if (word === "path") path = value;
    if (!kept.test(word) || !printable.test(value)) continue;
    // Browsers accept these with `Secure` only.
    if (!https && (word === "partitioned" || value.toLowerCase() === "none")) continue;
    copied.push(more.length === 0 ? key.trim() : `${key.trim()}=${value}`);
  }
  const whole = [
    `${prefix}${name}=${value}`,
    ...copied,
    `Path=${publicCookiePath(route, asked, path)}`,
    ...(https ? ["Secure"] : []),
  ].join("; ");
  return whole.length <= maxCookieLength ? whole : undefined;
}

/** Whether it deletes a cookie (RFC 6265 section 3.1). @param setCookie as `cookieForClient` returns it */
export function removesCookie(setCookie: string): boolean {
  const maxAge = /; max-age=([^;]*)/i.exec(setCookie)?.[1];
  if (maxAge !== undefined) return Number(maxAge) <= 0;
  const expires = /; expires=([^;]*)/i.exec(setCookie)?.[1];
  return expires !== undefined && Date.parse(expires) <= Date.now();
}

/** The public path for the cookie's path; the route's own if the request is outside it, so that no cookie applies to other routes. */
function publicCookiePath(route: Mapped, asked: string, path: string | undefined): string {
  const { prefix, upstreamPath: to } = route;
  const value = path?.startsWith("/") ? path : defaultPath(upstreamPath(route, asked));
  const trimmed = value.replace(/\/+$/, "") || "/";
  let publicPath = trimmed;
  if (to !== undefined && to !== prefix) {
    const root = to.replace(/\/$/, "");
    if (trimmed !== root && !trimmed.startsWith(`${root}/`)) return prefix;
    publicPath = `${prefix === "/" ? "" : prefix}${trimmed.slice(root.length)}` || "/";
  }
  const below = (one: string, other: string) => other === "/" || one === other || one.startsWith(`${other}/`);
  const fits = pathFault(publicPath) === undefined && below(publicPath, prefix) && below(asked, publicPath);
  return fits ? publicPath : prefix;
}

/** RFC 6265 section 5.1.4. */
function defaultPath(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
