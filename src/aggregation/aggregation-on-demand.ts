import { aggregateOf } from "../model/route.ts";
import type { Aggregation, AggregationDeps } from "./aggregation.ts";

/**
 * The MCP endpoints of aggregated routes, loaded when the configuration has the first such route: the MCP SDK is a sixth of the memory
 * of an idle process. Resolves when they are loaded, or not configured.
 */
export async function aggregationOnDemand(deps: AggregationDeps): Promise<Aggregation> {
  const { routes, logger, onRoutesChanged } = deps;
  let loading: Promise<Aggregation> | undefined;
  let loaded: Aggregation | undefined;
  let draining = false;
  let closed = false;

  function loadIfConfigured(): Promise<Aggregation> | undefined {
    if (closed || !routes().config.routes.some((route) => aggregateOf(route) !== undefined)) return loading;
    loading ??= import("./create-aggregation.ts").then(async ({ createAggregation }) => {
      const created = createAggregation(deps);
      loaded = created;
      if (draining) created.drain();
      if (closed) await created.close();
      return created;
    });
    return loading;
  }

  const stopFollowing = onRoutesChanged(() => {
    loadIfConfigured()?.catch((error: unknown) =>
      logger.error({ err: error }, "aggregated routes cannot be served: their code cannot be loaded"),
    );
  });
  await loadIfConfigured();
  return {
    async middleware(ctx, next) {
      const aggregation = loaded ?? (await loading);
      return aggregation === undefined ? next() : aggregation.middleware(ctx, next);
    },
    drain() {
      draining = true;
      loaded?.drain();
    },
    async close() {
      closed = true;
      stopFollowing();
      await loaded?.close();
    },
  };
}
