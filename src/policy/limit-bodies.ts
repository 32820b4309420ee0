import { on } from "node:events";
import type { IncomingMessage } from "node:http";
import type { Middleware } from "koa";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { refuseBeyondLimit } from "./refuse-beyond-limit.ts";

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
    refuseBeyondLimit(ctx, 413, "invalid_request", `the body is longer than ${bodyBytes} bytes`);
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
