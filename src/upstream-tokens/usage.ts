import { setTimeout as delay } from "node:timers/promises";
import { LRUCache } from "lru-cache";
import type { Store } from "../store/store.ts";
import type { TokenUse, UpstreamToken } from "../store/upstream-tokens.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { TokenCaller } from "./upstream-tokens.ts";

/**
 * Records token usage in the background: the first use in the audit trail, at most once per replica, and every few minutes in the store,
 * where the user can see it.
 */
export interface Usage {
  /**
   * @param caller whose call carries the token
   * @param now ms
   */
  record(token: UpstreamToken, caller: TokenCaller, now: number): void;
  /** Waits until all usage is written. */
  close(): Promise<void>;
}

const everyMs = 5 * 60_000;
/** Time in which uses are collected for one write, ms; maximum per write, and maximum waiting: of more, only first uses are recorded. */
const collectMs = 100;
const batch = 200;
const maxWaiting = 20_000;

/** @param deps.entries size of the connection cache: with fewer entries, usage would be recorded with every check. */
export function createUsage(deps: {
  store: Pick<Store, "upstreamTokens">;
  entries: number;
  logger: Logger;
}): Usage {
  const startedAt = Date.now();
  const recordedAt = new LRUCache<number, number>({ max: deps.entries });
  const waiting: TokenUse[] = [];
  const closing = new AbortController();
  let writing: Promise<void> | undefined;

  async function write(): Promise<void> {
    while (waiting.length > 0) {
      await delay(collectMs, undefined, { signal: closing.signal, ref: false }).catch(() => {});
      await deps.store.upstreamTokens
        .recordUses(waiting.splice(0, batch))
        .catch((error: unknown) => deps.logger.warn({ err: error }, "a token's use could not be recorded"));
    }
    writing = undefined;
  }

  return {
    record(token, { clientId, grantId }, now) {
      const { version, updatedAt, userId, routeId, upstream, issuer } = token;
      const before = recordedAt.get(version);
      if (before !== undefined && now - before < everyMs) return;
      recordedAt.set(version, now);
      // Older ones were used, or not, before this replica could know.
      const isFirst = before === undefined && updatedAt.getTime() >= startedAt;
      if (waiting.length >= maxWaiting && !isFirst) return;
      waiting.push({
        userId,
        routeId,
        upstream,
        ...(isFirst && {
          audit: {
            action: "upstream_token.first_used",
            userId,
            clientId,
            grantId,
            routeId,
            upstream,
            issuer,
          },
        }),
      });
      writing ??= write();
    },
    async close() {
      closing.abort();
      await writing;
    },
  };
}
