import { LRUCache } from "lru-cache";
import type { Store } from "../store/store.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { TokenCaller } from "./upstream-tokens.ts";

/**
 * Remembers that tokens are used, in the background: the first time in the audit trail, at most once per replica, and
 * every few minutes in the store, for the person to see.
 */
export interface Usage {
  /**
   * @param caller whose call the token goes along with
   * @param now ms
   */
  record(token: UpstreamToken, caller: TokenCaller, now: number): void;
}

const everyMs = 5 * 60_000;
/** A date to a few minutes must not stand in the way of what people wait for: beyond this many at a time they are left out. */
const maxRecording = 8;

/** @param deps.entries as many as connections are kept in memory: with fewer, a use would be noted with every check. */
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
