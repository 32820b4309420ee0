import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { parseCookie } from "cookie";
import type { Context } from "koa";
import { ownCookieName } from "../config/own-cookies.ts";
import { secretName } from "../store/secret-name.ts";

/** Tabs that a fresh browser opens at the same moment each get a cookie: two letters at random keep them apart. */
const bindingCookie = { https: /^__Host-mcp_browser(?:_[\w-]{2})?$/, http: /^mcp_browser(?:_[\w-]{2})?$/ };
const mostCookies = 16;
const minutes = 60;

/** Cookies that the answer under way sets: the request does not carry them yet. */
const fresh = new WeakMap<IncomingMessage, readonly [name: string, value: string]>();

/**
 * A random cookie on this host, set before the browser leaves for another one. Whoever comes back must hold it; all tabs of a
 * browser share it, so that sign-ins side by side do not disturb each other. Only the value proves anything, and it is in no URL.
 */
export const browserBinding = {
  /**
   * Sets (or prolongs) the cookie for an hour; returns the hash that names its value, safe in URLs.
   * @param purpose makes the hash worthless for any other purpose
   */
  set(ctx: Context, purpose?: string): string {
    const [known] = held(ctx);
    const [name, value] = known ?? [
      ownCookieName(`browser_${randomBytes(2).toString("base64url").slice(0, 2)}`, ctx.secure),
      randomBytes(32).toString("base64url"),
    ];
    fresh.set(ctx.req, [name, value]);
    ctx.cookies.set(name, value, {
      path: "/",
      secure: ctx.secure,
      httpOnly: true,
      sameSite: "lax",
      maxAge: minutes * 60_000,
      overwrite: true,
    });
    return hash(value, purpose);
  },
  /** Whether this browser holds the cookie of that name, given for the same purpose. */
  matches(ctx: Context, name: string, purpose?: string): boolean {
    return held(ctx).some(([, value]) => hash(value, purpose) === name);
  },
};

function held(ctx: Context): (readonly [name: string, value: string])[] {
  const now = fresh.get(ctx.req);
  const ours = ctx.secure ? bindingCookie.https : bindingCookie.http;
  const sent = Object.entries(parseCookie(ctx.get("cookie"))).flatMap(([name, value]) =>
    ours.test(name) && value !== undefined && /^[\w-]{43}$/.test(value) ? [[name, value] as const] : [],
  );
  return [...(now ? [now] : []), ...sent.slice(0, mostCookies)];
}

function hash(value: string, purpose: string | undefined): string {
  return secretName(purpose === undefined ? value : `${purpose} ${value}`);
}
