import type { Route } from "../model/route.ts";
import { pathFault, upstreamPath } from "./paths.ts";

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

/** Of one route, in one answer, and what a client may hold before it gets no more. */
export const maxCookies = 16;
export const maxCookieBytes = 8 * 1024;
/** As browsers do: name, value and attributes. */
const longestCookie = 4096;

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$/;
const printable = /^[ -:<-~]*$/;
/** Kept as written; `Domain` would show the cookie to other hosts, `Path` and `Secure` are ours to say. */
const kept = /^(?:expires|max-age|samesite|httponly|partitioned|priority)$/;

type Mapped = Pick<Route, "origin" | "prefix" | "upstreamPath">;

/** In front of the names of upstreams' cookies. They are names of our own: applications neither set nor see them. */
export const cookieMark = "mcp_up_";

/** What of a Cookie header goes to a route's upstream. */
export interface ReturnedCookies {
  /** Absent: none is of this route. */
  readonly header?: string;
  /** The client holds as many as one route may have. */
  readonly full: boolean;
}

/**
 * The cookies that the upstream of a route has set, under their own names.
 *
 * @param header `Cookie` of the client
 * @param prefixes `MetadataProofs.cookiePrefixes`; not asked where there is no such cookie
 */
export function returnedCookies(
  header: string | undefined,
  prefixes: () => readonly string[],
): ReturnedCookies {
  if (!header?.includes(cookieMark)) return { full: false };
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
 * A `Set-Cookie` of an MCP server as clients get it: its name behind a prefix, for this host alone, `Path` at or below the route's.
 * Undefined: it is none, one of our own names, or too long.
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
    const said = more.join("=").trim();
    if (word === "path") path = said;
    if (!kept.test(word) || !printable.test(said)) continue;
    // Browsers take these with `Secure` only.
    if (!https && (word === "partitioned" || said.toLowerCase() === "none")) continue;
    copied.push(more.length === 0 ? key.trim() : `${key.trim()}=${said}`);
  }
  const whole = [
    `${prefix}${name}=${value}`,
    ...copied,
    `Path=${ourPath(route, asked, path)}`,
    ...(https ? ["Secure"] : []),
  ].join("; ");
  return whole.length <= longestCookie ? whole : undefined;
}

/** Whether it takes a cookie away (RFC 6265 section 3.1). @param setCookie as `cookieForClient` returns it */
export function removesCookie(setCookie: string): boolean {
  const maxAge = /; max-age=([^;]*)/i.exec(setCookie)?.[1];
  if (maxAge !== undefined) return Number(maxAge) <= 0;
  const expires = /; expires=([^;]*)/i.exec(setCookie)?.[1];
  return expires !== undefined && Date.parse(expires) <= Date.now();
}

/** Where the upstream's path is on our side; the route's own where the request is not below it: nobody plants beside it. */
function ourPath(route: Mapped, asked: string, path: string | undefined): string {
  const { prefix, upstreamPath: to } = route;
  const said = path?.startsWith("/") ? path : defaultPath(upstreamPath(route, asked));
  const trimmed = said.replace(/\/+$/, "") || "/";
  let ours = trimmed;
  if (to !== undefined && to !== prefix) {
    const root = to.replace(/\/$/, "");
    if (trimmed !== root && !trimmed.startsWith(`${root}/`)) return prefix;
    ours = `${prefix === "/" ? "" : prefix}${trimmed.slice(root.length)}` || "/";
  }
  const below = (one: string, other: string) => other === "/" || one === other || one.startsWith(`${other}/`);
  const fits = pathFault(ours) === undefined && below(ours, prefix) && below(asked, ours);
  return fits ? ours : prefix;
}

/** RFC 6265 section 5.1.4. */
function defaultPath(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
