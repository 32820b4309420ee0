import { isBelowUpstream } from "../config/paths.ts";
import { connectionKeyName } from "../model/connection.ts";
import type { ConnectionCache } from "./connection-cache.ts";
import type { Refresher } from "./refresher.ts";
import type { UpstreamTokensDeps } from "./upstream-tokens.ts";

/** Tokens per round, and how long before expiry, ms. */
const batch = 50;
const aheadMs = 120_000;
/** Remaining share of a short-lived token's lifetime at which it is refreshed. */
const lastPart = 0.2;

/** Refreshes upstream tokens before they expire, in rounds with jitter to spread the replicas. Returns a function that stops it. */
export function startRefreshingAhead(
  deps: UpstreamTokensDeps & { cache: ConnectionCache; refresher: Refresher },
): () => void {
  const { store, cache, refresher, routes, logger } = deps;
  const everyMs = deps.refreshAheadEveryMs ?? 30_000;
  let timer: NodeJS.Timeout | undefined;
  let stopped = everyMs <= 0;

  async function round(): Promise<void> {
    const due = await store.upstreamTokens.dueForRefresh(new Date(Date.now() + aheadMs), batch, lastPart);
    await Promise.all(
      due.map(async (key) => {
        const route = routes().byId(key.routeId);
        const name = connectionKeyName(key);
        if (!route || refresher.backoff(name, Date.now())) return;
        if (route.upstream !== key.upstream && !isBelowUpstream(route, key.upstream)) return;
        const connection = await cache.load(key, name);
        if (connection.token?.version !== key.version) return;
        await refresher.refresh(connection, connection.token, route, { ahead: true });
      }),
    );
  }
  function schedule(): void {
    if (stopped) return;
    timer = setTimeout(
      () => {
        round()
          .catch((error: unknown) => logger.warn({ err: error }, "a round of background refreshes failed"))
          .finally(schedule);
      },
      everyMs * (0.5 + Math.random()),
    );
    timer.unref();
  }
  schedule();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
