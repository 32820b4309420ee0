import { on } from "node:events";
import type { IncomingMessage } from "node:http";
import type { Context, Middleware } from "koa";
import type { CurrentRoutes } from "../../config/route-table.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { boundedCache } from "../../util/bounded-cache.ts";
import { clientAddress } from "./request.ts";

/** Answers a request that exceeds one of `limits.*`: not cacheable, and readable by clients in browsers. */
export function rejectBeyondLimit(
  ctx: Context,
  status: 413 | 429,
  error: "invalid_request" | "too_many_requests",
  description: string,
): void {
  // Set on every response by an earlier middleware.
  const id = ctx.response.get("x-request-id") || undefined;
  ctx.status = status;
  ctx.set("cache-control", "no-store");
  ctx.set("access-control-allow-origin", "*");
  ctx.body = { error, error_description: description, request_id: id };
}

/**
 * Limits what one address may request without signing in: client registrations and new authorization flows create rows and cause
 * requests to other servers. Counted per hour, in this process.
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
    const max = kind === "registrations" ? limits.registrationsPerAddress : limits.authorizationsPerAddress;
    // Counted first, so that concurrent requests cannot all pass.
    if (!counts.take(key, max)) {
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
  // Routers ignore case and a trailing slash, and serve HEAD as GET.
  const path = ctx.path.toLowerCase().replace(/\/$/, "");
  const own = prefix.toLowerCase();
  if (method === "POST" && (path === "/oauth/register" || path === `${own}/mcp/register`))
    return "registrations";
  const startsFlow =
    path === "/oauth/authorize" ||
    path === `${own}/mcp/authorize` ||
    path === `${own}/mcp/connect` ||
    path === `${own}/sign_in`;
  const posted = method === "POST" && path.endsWith("/authorize");
  return (method === "GET" || method === "HEAD" || posted) && startsFlow ? "authorizations" : undefined;
}

/**
 * Rejects bodies longer than `limits.body_bytes` (413), with or without a Content-Length. Later middleware needs no limit of its own.
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
 * Waits until the request's buffer has the whole body, or more than `max` bytes, without consuming it.
 * @param max less than the stream's high water mark, at which the buffer stops growing.
 * @throws the stream's error if the client disconnects.
 */
async function arrivesWithin(request: IncomingMessage, max: number): Promise<boolean> {
  if (request.headers["transfer-encoding"] === undefined || request.complete)
    return request.readableLength <= max;
  for await (const _more of on(request, "readable", { close: ["close"] })) {
    if (request.readableLength > max) return false;
    if (request.complete) break;
  }
  return true;
}

const hourMs = 3_600_000;
/** Beyond this many keys, the least recently used one is evicted and starts over. */
const maxKeys = 100_000;

/** Consent links of one user per hour and replica: a client in a loop gets what costs nothing. */
export const consentLinksPerHour = 120;

/** A user has reached `consentLinksPerHour`. */
export class TooManyConsentLinks extends Error {
  constructor() {
    super(`more than ${consentLinksPerHour} consent links of one user in an hour`);
  }
}

/** Counts by key, in this process, in windows that start at a key's first count. */
export interface Counts {
  /** Counts one more; false, without counting, if `max` is reached. */
  take(key: string, max: number): boolean;
  /** Seconds until the key's window ends, at least 1. */
  retryAfter(key: string): number;
}

export function countPerHour(): Counts {
  return countPer(hourMs);
}

/** @param windowMs length of a window, ms */
export function countPer(windowMs: number): Counts {
  const counts = boundedCache<string, { used: number }>(maxKeys, { ttl: windowMs });
  return {
    take(key, max) {
      const count = counts.get(key) ?? { used: 0 };
      if (count.used >= max) return false;
      count.used += 1;
      counts.set(key, count, { noUpdateTTL: true });
      return true;
    },
    retryAfter: (key) => Math.max(1, Math.ceil(counts.getRemainingTTL(key) / 1000)),
  };
}
