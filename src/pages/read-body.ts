import { text } from "node:stream/consumers";
import type { Context } from "koa";

/**
 * Reads the whole body of a posted form or document; the door has made sure of its length (`limits.body_bytes`).
 *
 * @param type media type that the request must have.
 * @throws an HTTP 415 error, as Koa's `ctx.throw` makes it, where it has another.
 */
export async function readBody(ctx: Context, type: string): Promise<string> {
  if (!ctx.is(type)) ctx.throw(415, `only ${type} is accepted here`);
  return text(ctx.req);
}
