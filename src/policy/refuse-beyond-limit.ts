import type { Context } from "koa";

/** Answers a request to our own endpoints that is beyond one of `limits.*`: never cached, and readable by clients in browsers. */
export function refuseBeyondLimit(
  ctx: Context,
  status: 413 | 429,
  error: "invalid_request" | "too_many_requests",
  description: string,
): void {
  // Whoever stands before has given it, for every answer.
  const id = ctx.response.get("x-request-id") || undefined;
  ctx.status = status;
  ctx.set("cache-control", "no-store");
  ctx.set("access-control-allow-origin", "*");
  ctx.body = { error, error_description: description, request_id: id };
}
