import type { Socket } from "node:net";
import Koa, { type Middleware } from "koa";
import { envoySecretHeader, type PeerAuthentication } from "../../config/listeners.ts";
import type { CurrentRoutes } from "../../config/route-table.ts";
import { StoreUnavailable } from "../../store/errors.ts";
import type { Logger } from "../../telemetry/logger.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { isGivenUp, requestId } from "./request.ts";
import { answerError, showErrorToPerson } from "./send-page.ts";

/** A Koa app that logs uncaught errors instead of printing them. */
export function createApp(logger: Logger): Koa {
  const app = new Koa();
  app.silent = true;
  app.on("error", (error: Error) =>
    logger.debug({ reason: error.message }, "sending an HTTP response failed"),
  );
  return app;
}

/**
 * Entry point of the public listener: rejects unknown hosts, sets the scheme and host for later middleware, and turns errors into a page
 * or JSON with a request id, logged once.
 */
export function publicEndpoint(routes: CurrentRoutes, logger: Logger, metrics: Metrics): Middleware {
  return async (ctx, next) => {
    const id = requestId(ctx.req);
    ctx.set("x-request-id", id);
    const origin = routes().originOf(ctx.req.headers.host ?? "");
    if (!origin) {
      answerError(ctx, 404, "unknown_host", "Nothing is served under this host name.");
      return;
    }
    delete ctx.req.headers["x-forwarded-host"];
    ctx.req.headers["x-forwarded-proto"] = new URL(origin).protocol.slice(0, -1);
    ctx.req.headers.host = new URL(origin).host;
    try {
      await next();
      if (ctx.status === 404 && ctx.body == null)
        answerError(ctx, 404, "not_found", "There is nothing at this address.");
      showErrorToPerson(ctx);
      // The request id of every error page leads here.
      if (ctx.status >= 400 && ctx.type === "text/html")
        logger.info(
          { requestId: id, status: ctx.status, method: ctx.method, path: ctx.path },
          "error page shown",
        );
    } catch (error) {
      if (isGivenUp(ctx)) {
        logger.debug({ requestId: id, method: ctx.method, path: ctx.path }, "client closed the request");
        return;
      }
      const { status, code, message } = publicError(error);
      metrics.errors.inc({ component: "http", code });
      logger[status >= 500 ? "error" : "info"](
        { err: error, requestId: id, status, code, method: ctx.method, path: ctx.path },
        "HTTP request failed",
      );
      if (status === 503) ctx.set("retry-after", "1");
      answerError(ctx, status, code, message);
    }
  };
}

/** What a caller may learn about an error: HTTP errors with `expose`; everything else is internal. */
function publicError(error: unknown): { status: number; code: string; message: string } {
  if (error instanceof StoreUnavailable)
    return { status: 503, code: error.code, message: "The gateway cannot reach its database." };
  if (error instanceof Error && "expose" in error && error.expose && "status" in error)
    return { status: Number(error.status), code: "invalid_request", message: error.message };
  return { status: 500, code: "internal", message: "Something went wrong on our side." };
}

/** Headers that describe the original request: its client, protocol and ids. */
const forwarded =
  /^(?:forwarded|x-forwarded-.*|x-real-ip|x-client-ip|x-envoy-.*|x-request-id|traceparent|tracestate|baggage)$/;

/**
 * First on the public listener, after the health check: only accepts requests from Envoy.
 *
 * @param trustForwarded whether forwarded headers are trusted: Envoy has authenticated or is the only peer of a socket. Otherwise (loopback
 *   without a secret) the request counts as the peer's own.
 * @param onProven called with each connection of Envoy.
 */
export function envoyOnly(
  peers: PeerAuthentication,
  trustForwarded: boolean,
  onProven: (connection: Socket) => void,
): Middleware {
  return async (ctx, next) => {
    const { headers } = ctx.req;
    if (peers.verify(headers[envoySecretHeader]) !== "proven") {
      peers.rejected();
      ctx.status = 403;
      ctx.set("cache-control", "no-store");
      ctx.body = { error: "forbidden", error_description: "only Envoy may call this listener" };
      return;
    }
    onProven(ctx.req.socket);
    delete headers[envoySecretHeader];
    if (!trustForwarded) for (const name in headers) if (forwarded.test(name)) delete headers[name];
    await next();
  };
}
