import Router from "@koa/router";
import type { Metrics } from "../telemetry/metrics.ts";

/** The inputs of `/readyz` and `/metrics`. */
export interface HealthDeps {
  /** Resolves when the database answers. */
  readonly ping: () => Promise<void>;
  /** False after SIGTERM: load balancers stop sending requests. */
  readonly accepting: () => boolean;
  /** Why the routes file was rejected. The previous one still serves, so readiness does not depend on it. */
  readonly configProblem: () => string | undefined;
  readonly metrics: Metrics;
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
    ctx.body = await deps.metrics.registry.metrics();
  });
  return router;
}
