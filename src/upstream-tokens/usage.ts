import { LRUCache } from "lru-cache";
import type { Store } from "../store/store.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { CallerLike } from "./upstream-tokens.ts";

/**
 * Remembers that tokens are used, in the background: the first time in the audit trail (F7.3), at most once per replica, and
 * every few minutes in the store, for the person to see (F5.5).
 */
export interface Uses {
  /**
   * @param caller whose call the token goes along with
   * @param now ms
   */
  note(token: UpstreamToken, caller: CallerLike, now: number): void;
}

const everyMs = 5 * 60_000;
/** A date to a few minutes must not stand in the way of what people wait for: beyond this many at a time they are left out. */
const maxNoting = 8;

/** @param deps.entries as many as connections are kept in memory: with fewer, a use would be noted with every check. */
export function createUses(deps: {
  store: Pick<Store, "audit" | "upstreamTokens">;
  entries: number;
  logger: Logger;
}): Uses {
  const startedAt = Date.now();
  let noting = 0;
  const notedAt = new LRUCache<number, number>({ max: deps.entries });
  const failed = (error: unknown) => deps.logger.warn({ err: error }, "a token's use could not be recorded");
  return {
    note(token, { clientId, grantId }, now) {
      const { version, updatedAt, userId, routeId, upstream, issuer } = token;
      const before = notedAt.get(version);
      if (before !== undefined && now - before < everyMs) return;
      notedAt.set(version, now);
      if (noting < maxNoting) {
        noting++;
        deps.store.upstreamTokens
          .noteUse({ userId, routeId, upstream })
          .catch(failed)
          .finally(() => noting--);
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
