import { randomBytes } from "node:crypto";
import type { Context } from "koa";
import { secretName } from "../store/secret-name.ts";

const cookieName = "__Host-mcp_browser";
const minutes = 15;

/**
 * A random cookie on this host, set before the browser leaves for another one. Whoever comes back must hold it; all tabs of a
 * browser share it, so that sign-ins side by side do not disturb each other.
 */
export const browserBinding = {
  /** Sets (or prolongs) the cookie; returns the name of its value, safe in URLs. */
  set(ctx: Context): string {
    const known = ctx.cookies.get(cookieName);
    const value = known && /^[\w-]{43}$/.test(known) ? known : randomBytes(32).toString("base64url");
    ctx.cookies.set(cookieName, value, {
      path: "/",
      secure: true,
      httpOnly: true,
      sameSite: "lax",
      maxAge: minutes * 60_000,
      overwrite: true,
    });
    return secretName(value);
  },
  /** Whether this browser holds the cookie of that name. */
  matches(ctx: Context, name: string): boolean {
    const value = ctx.cookies.get(cookieName);
    return value !== undefined && secretName(value) === name;
  },
};
