import { on } from "node:events";
import type { IncomingMessage } from "node:http";
import type { Context, Middleware } from "koa";
import type { CurrentRoutes } from "../../config/route-table.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { countPerHour } from "../../util/hourly-counts.ts";
import { clientAddress } from "./request.ts";

/** Answers a request to our own endpoints that is beyond one of `limits.*`: never cached, and readable by clients in browsers. */
export function rejectBeyondLimit(
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

/**
 * What one address may take from our own endpoints, which nobody has to sign in for: client registrations and
 * beginnings of an authorization leave rows behind and make us look things up elsewhere. Windows of an hour, in this process.
 */
export function limitRequests(deps: {
  readonly routes: CurrentRoutes;
  readonly metrics: Metrics;
}): Middleware {
  const { routes, metrics } = deps;
  const counts = countPerHour();

  return async (ctx, next) => {
    const { limits, paths, envoy } = routes().config;
    const kind = kindOf(ctx, paths.prefix);
    if (!kind) return next();
    const key = `${kind} ${clientAddress(ctx.req, envoy.xffNumTrustedHops)}`;
    const most = kind === "registrations" ? limits.registrationsPerAddress : limits.authorizationsPerAddress;
    // Counted before the work, so that many at once do not all find room.
    if (!counts.take(key, most)) {
      metrics.limitsReached.inc({ limit: `${kind}_per_address` });
      ctx.set("retry-after", String(counts.retryAfter(key)));
      const why = `too many ${kind} from your address; try again later`;
      return rejectBeyondLimit(ctx, 429, "too_many_requests", why);
    }
    await next();
  };
}

function kindOf(ctx: Context, prefix: string): "registrations" | "authorizations" | undefined {
  const { method } = ctx;
  // Routers take a path in any case, with a slash at its end or without, and a HEAD for a GET.
  const path = ctx.path.toLowerCase().replace(/\/$/, "");
  const own = prefix.toLowerCase();
  if (method === "POST" && (path === "/oauth/register" || path === `${own}/mcp/register`))
    return "registrations";
  const begins =
    path === "/oauth/authorize" ||
    path === `${own}/mcp/authorize` ||
    path === `${own}/mcp/connect` ||
    path === `${own}/sign_in`;
  const posted = method === "POST" && path.endsWith("/authorize");
  return (method === "GET" || method === "HEAD" || posted) && begins ? "authorizations" : undefined;
}

/**
 * No body to our own endpoints is longer than `limits.body_bytes`, whether its length was announced or not: 413. Whoever
 * reads it behind this needs no limit of its own.
 */
export function limitBodies(deps: { readonly routes: CurrentRoutes; readonly metrics: Metrics }): Middleware {
  const { routes, metrics } = deps;
  return async (ctx, next) => {
    const { bodyBytes } = routes().config.limits;
    const announced = ctx.request.length;
    const fits = announced === undefined ? await arrivesWithin(ctx.req, bodyBytes) : announced <= bodyBytes;
    if (fits) return next();
    metrics.limitsReached.inc({ limit: "body_bytes" });
    rejectBeyondLimit(ctx, 413, "invalid_request", `the body is longer than ${bodyBytes} bytes`);
  };
}

/**
 * Waits until the whole body lies in the request's own buffer, or more than `most` bytes do, and takes nothing out.
 * @param most less than the stream's high water mark, where the buffer would stop to grow.
 * @throws the stream's error when the client breaks off.
 */
async function arrivesWithin(request: IncomingMessage, most: number): Promise<boolean> {
  if (request.headers["transfer-encoding"] === undefined || request.complete)
    return request.readableLength <= most;
  for await (const _more of on(request, "readable", { close: ["close"] })) {
    if (request.readableLength > most) return false;
    if (request.complete) break;
  }
  return true;
}
