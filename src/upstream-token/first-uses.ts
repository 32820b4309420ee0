import { LRUCache } from "lru-cache";
import type { Store, UpstreamToken } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";

/** Writes an audit event when a token is used for the first time (F7.3); in the background, at most once per replica. */
export interface FirstUses {
  note(token: UpstreamToken): void;
}

export function createFirstUses(deps: { store: Pick<Store, "audit">; logger: Logger }): FirstUses {
  const startedAt = Date.now();
  const seen = new LRUCache<number, true>({ max: 50_000 });
  return {
    note(token) {
      const { version, updatedAt, userId, routeId, upstream, issuer } = token;
      // Older ones were used, or not, before this replica could know.
      if (seen.has(version) || updatedAt.getTime() < startedAt) return;
      seen.set(version, true);
      deps.store
        .audit({ action: "upstream_token.first_used", userId, routeId, upstream, issuer })
        .catch((error: unknown) => deps.logger.warn({ err: error }, "a first use could not be recorded"));
    },
  };
}
