import { isBelowUpstream } from "../config/paths.ts";
import { connectionKeyName } from "../model/connection.ts";
import type { DueToken } from "../store/due-tokens.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import { Places } from "../util/at-once.ts";
import type { ConnectionCache } from "./connection-cache.ts";
import type { Refresher } from "./refresher.ts";
import type { UpstreamTokensDeps } from "./upstream-tokens.ts";

/** How long before expiry, ms. */
const aheadMs = 120_000;
/** Remaining share of a short-lived token's lifetime at which it is refreshed. */
const lastPart = 0.2;
/** Refreshes at once, and of one route: a slow authorization server must not delay the others. */
const atOnce = 50;
const ofRouteAtOnce = 25;
/** Tokens that have been found and wait. */
const maxWaiting = 200;
/** After this many failures of a route in a round, without a success, the rest of its tokens waits for the next one. */
const maxFailures = 10;
/** A round that takes longer begins again, with what is most urgent by then, ms. */
const roundMs = 25_000;

/**
 * Refreshes upstream tokens before they expire, in rounds with jitter. One replica at a time does so, of those with the same routes.
 * Returns a function that stops it.
 */
export function startRefreshingAhead(
  deps: UpstreamTokensDeps & { cache: ConnectionCache; refresher: Refresher },
): () => void {
  const { store, cache, refresher, routes, logger } = deps;
  const everyMs = deps.refreshAheadEveryMs ?? 30_000;
  const stopping = new AbortController();
  let timer: NodeJS.Timeout | undefined;

  /** @param failures of this round, by route */
  async function refreshOne(
    { version, because, ...key }: DueToken,
    failures: Map<string, number>,
  ): Promise<void> {
    const route = routes().byId(key.routeId);
    const name = connectionKeyName(key);
    if (!route || refresher.backoff(name, Date.now())) return;
    if (route.upstream !== key.upstream && !isBelowUpstream(route, key.upstream)) return;
    const connection = await cache.load(key, name);
    if (connection.token?.version !== version) return;
    const result = await refresher.refresh(connection, connection.token, route, { ahead: true });
    failures.set(route.id, result.kind === "unavailable" ? (failures.get(route.id) ?? 0) + 1 : 0);
    if (because === "token_expires" || result.kind !== "refreshed") return;
    const final = finalExpiry(connection.token, result.connection.token);
    if (final) await store.upstreamTokens.setRefreshFinal(key, final);
  }

  async function round(leased: AbortSignal): Promise<void> {
    const { usedWithin } = routes().config.upstreamOAuth.refreshAhead;
    const signal = AbortSignal.any([leased, stopping.signal, AbortSignal.timeout(roundMs)]);
    const places = new Places(atOnce);
    const underWay = new Set<Promise<void>>();
    const failures = new Map<string, number>();
    const isFailing = ({ routeId }: DueToken) => (failures.get(routeId) ?? 0) >= maxFailures;
    const begin = async (token: DueToken) => {
      const leave = await places
        .wait(signal, { key: token.routeId, max: ofRouteAtOnce })
        .catch(() => undefined);
      if (!leave) return;
      // A server that does not answer must not hold up the tokens of others.
      if (isFailing(token)) leave();
      else await refreshOne(token, failures).finally(leave);
    };
    for await (const page of store.upstreamTokens.dueForRefresh({ aheadMs, lastPart, usedWithin })) {
      for (const token of page) {
        if (isFailing(token)) continue;
        const refreshing = begin(token)
          .catch((error: unknown) =>
            logger.warn({ err: error, route: token.routeId }, "a background refresh failed"),
          )
          .finally(() => underWay.delete(refreshing));
        underWay.add(refreshing);
      }
      while (underWay.size > maxWaiting) await Promise.race(underWay);
      if (signal.aborted) break;
    }
    // What has begun goes on by itself: a server that takes long must not keep other replicas from the next round.
    await Promise.race([Promise.all(underWay), aborted(signal)]);
  }

  async function roundIfAlone(): Promise<void> {
    const table = routes();
    if (table.config.upstreamOAuth.refreshAhead.usedWithin === 0) return;
    await store.backgroundWork.run(`refresh_ahead ${table.fingerprint()}`, everyMs / 2, round);
  }

  function schedule(): void {
    if (stopping.signal.aborted) return;
    timer = setTimeout(
      () => {
        roundIfAlone()
          .catch((error: unknown) => logger.warn({ err: error }, "a round of background refreshes failed"))
          .finally(schedule);
      },
      everyMs * (0.5 + Math.random()),
    );
    timer.unref();
  }
  if (everyMs > 0) schedule();
  return () => {
    stopping.abort();
    clearTimeout(timer);
  };
}

/** Until when the refresh token counts as not extended, if the refresh has not extended it by a tenth of its lifetime. */
function finalExpiry(before: UpstreamToken, after: UpstreamToken | undefined): Date | undefined {
  if (!before.refreshExpiresAt || !after?.refreshExpiresAt) return undefined;
  const expiresAt = before.refreshExpiresAt.getTime();
  const final = expiresAt + (expiresAt - before.updatedAt.getTime()) / 10;
  return after.refreshExpiresAt.getTime() <= final ? new Date(final) : undefined;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
