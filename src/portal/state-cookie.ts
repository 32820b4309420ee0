import { createHash } from "node:crypto";
import type { Context } from "koa";
import { ownCookieName } from "../config/cookies.ts";

/** One cookie per `state`, so that several authorization flows in one browser do not interfere. */
const nameOf = (ctx: Context, state: string) =>
  ownCookieName(`consent_${createHash("sha256").update(state).digest("base64url").slice(0, 16)}`, ctx.secure);
/** Unsigned: the value is a secret, and a signature would be a second cookie to clear. */
const attributes = ({ secure }: Context) =>
  ({ path: "/", secure, httpOnly: true, sameSite: "lax", overwrite: true, signed: false }) as const;

/** Binds an authorization flow to the browser that started it. */
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
