import { LRUCache } from "lru-cache";
import type { Store } from "../store/store.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
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
}

const everyMs = 5 * 60_000;
/** Maximum concurrent writes; more are skipped, so that usage does not delay other queries. */
const maxRecording = 8;

/** @param deps.entries size of the connection cache: with fewer entries, usage would be recorded with every check. */
export function createUsage(deps: {
  store: Pick<Store, "audit" | "upstreamTokens">;
  entries: number;
  logger: Logger;
}): Usage {
  const startedAt = Date.now();
  let recording = 0;
  const recordedAt = new LRUCache<number, number>({ max: deps.entries });
  const failed = (error: unknown) => deps.logger.warn({ err: error }, "a token's use could not be recorded");
  return {
    record(token, { clientId, grantId }, now) {
      const { version, updatedAt, userId, routeId, upstream, issuer } = token;
      const before = recordedAt.get(version);
      if (before !== undefined && now - before < everyMs) return;
      recordedAt.set(version, now);
      if (recording < maxRecording) {
        recording++;
        deps.store.upstreamTokens
          .recordUse({ userId, routeId, upstream })
          .catch(failed)
          .finally(() => recording--);
      }
      // Older ones were used, or not, before this replica could know.
      if (before !== undefined || updatedAt.getTime() < startedAt) return;
      deps.store
        .audit({
          action: "upstream_token.first_used",
          userId,
          clientId,
          grantId,
          routeId,
          upstream,
          issuer,
        })
        .catch(failed);
    },
  };
}
