import type { Socket } from "node:net";
import Router from "@koa/router";
import type { Middleware } from "koa";
import type { Metrics } from "../../telemetry/metrics.ts";
import { checkerMs, healthSpreadMs } from "../grpc/health.ts";

/** Readiness of the public listener, for load balancers. */
export interface Readiness {
  /** Answers `GET /readyz` for any host, before all other middleware. Envoy does not route this path. */
  readonly middleware: Middleware;
  /**
   * Reports draining and closes connections after their current request. Resolves when all load balancers that poll have noticed and
   * reacted, at the latest after `ms`; immediately if there are none.
   */
  drain(ms: number): Promise<void>;
}

/** The counterpart of grpc.health.v1.Health for the HTTP listener. */
export function createReadiness(): Readiness {
  /** Load balancers by connection: when each checked last. */
  const checkers = new Map<Socket, number>();
  const unnotified = new Set<Socket>();
  let draining = false;
  let onNotified: (() => void) | undefined;

  function notified(checker: Socket): void {
    unnotified.delete(checker);
    if (unnotified.size === 0) onNotified?.();
  }

  return {
    async middleware(ctx, next) {
      if (draining) ctx.set("connection", "close");
      if (ctx.path !== "/readyz") return next();
      const { socket } = ctx.req;
      if (!checkers.has(socket))
        socket.once("close", () => {
          checkers.delete(socket);
          notified(socket);
        });
      checkers.set(socket, performance.now());
      ctx.status = draining ? 503 : 200;
      ctx.body = { status: draining ? "draining" : "ok" };
      if (draining) ctx.res.once("finish", () => notified(socket));
    },
    async drain(ms) {
      draining = true;
      for (const [checker, at] of checkers) if (performance.now() - at < checkerMs) unnotified.add(checker);
      if (unnotified.size === 0) return;
      await new Promise<void>((resolve) => {
        const deadline = setTimeout(resolve, ms);
        onNotified = () => {
          clearTimeout(deadline);
          setTimeout(resolve, healthSpreadMs);
        };
      });
    },
  };
}

/** The inputs of `/readyz` and `/metrics`. */
export interface HealthDeps {
  /** Resolves when the database answers. */
  readonly ping: () => Promise<void>;
  /** False after SIGTERM: load balancers stop sending requests. */
  readonly accepting: () => boolean;
  /** Why the routes file was rejected. The previous one still serves, so readiness does not depend on it. */
  readonly configProblem: () => string | undefined;
  readonly metrics: Metrics;
  /** As Prometheus reads them, of all workers; default: of this process. */
  readonly metricsOfAll?: () => Promise<string>;
}

/** `/livez`, `/readyz` and `/metrics` of the private port. */
export function createHealthRouter(deps: HealthDeps): Router {
  const router = new Router();
  router.get("/livez", (ctx) => {
    ctx.body = { status: "ok" };
  });
  router.get("/readyz", async (ctx) => {
    const store = await deps.ping().then(
      () => "ok",
      () => "unavailable",
    );
    const config = deps.configProblem() ?? "ok";
    const ready = store === "ok" && deps.accepting();
    ctx.status = ready ? 200 : 503;
    ctx.body = { status: ready ? "ok" : deps.accepting() ? "unavailable" : "draining", store, config };
  });
  router.get("/metrics", async (ctx) => {
    ctx.type = deps.metrics.registry.contentType;
    ctx.body = await (deps.metricsOfAll?.() ?? deps.metrics.registry.metrics());
  });
  return router;
}
