import { createHash } from "node:crypto";
import type { Context } from "koa";
import { ownCookieName } from "../config/own-cookies.ts";

/** One cookie per `state`, so that several consents under way in one browser do not disturb each other (F8.11). */
const nameOf = (ctx: Context, state: string) =>
  ownCookieName(`consent_${createHash("sha256").update(state).digest("base64url").slice(0, 16)}`, ctx.secure);
/** Unsigned: the value is a secret already, and a signature would be a second cookie to clear. */
const attributes = ({ secure }: Context) =>
  ({ path: "/", secure, httpOnly: true, sameSite: "lax", overwrite: true, signed: false }) as const;

/** Binds a consent to the browser that left for it (F8.6). */
export const stateCookie = {
  /** @param ttl seconds */
  set(ctx: Context, state: string, ttl: number): void {
    ctx.cookies.set(nameOf(ctx, state), state, { ...attributes(ctx), maxAge: ttl * 1000 });
  },
  get(ctx: Context, state: string): string | undefined {
    return state ? ctx.cookies.get(nameOf(ctx, state), { signed: false }) : undefined;
  },
  clear(ctx: Context, state: string): void {
    ctx.cookies.set(nameOf(ctx, state), null, attributes(ctx));
  },
};
