import type { Context } from "koa";

/** For bodies whose length nobody announced; announced ones have met `limits.body_bytes` before. */
const maxBytes = 56 * 1024;

/**
 * Reads the whole body of a posted form or document.
 *
 * @param type media type that the request must have.
 * @throws an HTTP 415 or 413 error, as Koa's `ctx.throw` makes it, where it has another or is too long.
 */
export async function readBody(ctx: Context, type: string): Promise<string> {
  if (!ctx.is(type)) ctx.throw(415, `only ${type} is accepted here`);
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of ctx.req) {
    length += chunk.length;
    if (length > maxBytes) ctx.throw(413, "the body is too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
