import type { Context } from "koa";
import { readBody } from "./read-body.ts";

/**
 * Reads a posted form of one of our pages.
 * @throws an HTTP 415 error, as Koa's `ctx.throw` makes it, where it is not one.
 */
export async function readForm(ctx: Context): Promise<URLSearchParams> {
  return new URLSearchParams(await readBody(ctx, "application/x-www-form-urlencoded"));
}
