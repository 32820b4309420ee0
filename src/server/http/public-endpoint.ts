import type { Socket } from "node:net";
import Koa, { type Middleware } from "koa";
import { envoySecretHeader, type PeerAuthentication } from "../../config/listeners.ts";
import type { CurrentRoutes } from "../../config/route-table.ts";
import { StoreUnavailable } from "../../store/errors.ts";
import type { Logger } from "../../telemetry/logger.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { answerError, showErrorToPerson } from "./errors.ts";
import { requestId } from "./request.ts";

/** An app that logs what nobody caught, and never prints it. */
export function createApp(logger: Logger): Koa {
  const app = new Koa();
  app.silent = true;
  app.on("error", (error: Error) =>
    logger.debug({ reason: error.message }, "an HTTP answer could not be finished"),
  );
  return app;
}

/**
 * First thing on the public port: knows the host or refuses it, settles scheme and host for everything behind,
 * and turns what is thrown into a page or JSON with a request id, logged once.
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
      // Whatever error page somebody sees, its request id leads here.
      if (ctx.status >= 400 && ctx.type === "text/html")
        logger.info(
          { requestId: id, status: ctx.status, method: ctx.method, path: ctx.path },
          "a person got an error page",
        );
    } catch (error) {
      if (ctx.req.destroyed && !ctx.req.complete) {
        logger.debug({ requestId: id, method: ctx.method, path: ctx.path }, "a client broke off its request");
        return;
      }
      const { status, code, message } = publicError(error);
      metrics.errors.inc({ component: "http", code });
      logger[status >= 500 ? "error" : "info"](
        { err: error, requestId: id, status, code, method: ctx.method, path: ctx.path },
        "an HTTP request failed",
      );
      if (status === 503) ctx.set("retry-after", "1");
      answerError(ctx, status, code, message);
    }
  };
}

/** What a caller may know of an error: an HTTP error made for them says so (`expose`), all else is ours to keep. */
function publicError(error: unknown): { status: number; code: string; message: string } {
  if (error instanceof StoreUnavailable)
    return { status: 503, code: error.code, message: "The service cannot reach its database just now." };
  if (error instanceof Error && "expose" in error && error.expose && "status" in error)
    return { status: Number(error.status), code: "invalid_request", message: error.message };
  return { status: 500, code: "internal", message: "Something went wrong on our side." };
}

/** What says something of another request than the one on this connection: who sent it, over what, under which id. */
const forwarded =
  /^(?:forwarded|x-forwarded-.*|x-real-ip|x-client-ip|x-envoy-.*|x-request-id|traceparent|tracestate|baggage)$/;

/**
 * First on the public port, behind the health check: answers Envoy only.
 *
 * @param believed what Envoy forwards is believed: it has proven itself, or reaches us over a socket that is its alone. Otherwise
 *   (loopback without a secret) a request is one of its peer's own.
 * @param onProven this connection is Envoy's.
 */
export function envoyOnly(
  peers: PeerAuthentication,
  believed: boolean,
  onProven: (connection: Socket) => void,
): Middleware {
  return async (ctx, next) => {
    const { headers } = ctx.req;
    if (peers.judge(headers[envoySecretHeader]) !== "proven") {
      peers.refused();
      ctx.status = 403;
      ctx.set("cache-control", "no-store");
      ctx.body = { error: "forbidden", error_description: "only Envoy is answered here" };
      return;
    }
    onProven(ctx.req.socket);
    delete headers[envoySecretHeader];
    if (!believed) for (const name in headers) if (forwarded.test(name)) delete headers[name];
    await next();
  };
}
