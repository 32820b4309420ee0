import type { Context } from "koa";

const maxBytes = 16_384;

/**
 * Reads a posted form of one of our pages.
 * @throws an HTTP 415 or 413 error, as Koa's `ctx.throw` makes it, where it is not one.
 */
export async function readForm(ctx: Context): Promise<URLSearchParams> {
  if (!ctx.is("application/x-www-form-urlencoded")) ctx.throw(415, "only forms are accepted here");
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of ctx.req) {
    length += chunk.length;
    if (length > maxBytes) ctx.throw(413, "the form is too long");
    chunks.push(chunk);
  }
  return new URLSearchParams(Buffer.concat(chunks).toString("utf8"));
}
