import type { LRUCache } from "lru-cache";
import { boundedCache } from "../util/bounded-cache.ts";

/** The outcome of this replica's latest refresh of each connection, by issuer. */
export interface IssuerOutcomes {
  record(issuer: string, connection: string, outcome: "succeeded" | "failed"): void;
  /** Whether most recently refreshed connections fail; a single failure does not count. */
  mostFail(issuer: string): boolean;
}

/** What counts as recent, ms. */
const recentMs = 10 * 60_000;

export function createIssuerOutcomes(): IssuerOutcomes {
  type Outcomes = LRUCache<string, { readonly at: number; readonly failed: boolean }>;
  const byIssuer = boundedCache<string, Outcomes>(1000);
  return {
    record(issuer, connection, outcome) {
      let outcomes = byIssuer.get(issuer);
      if (!outcomes) {
        outcomes = boundedCache(1000);
        byIssuer.set(issuer, outcomes);
      }
      outcomes.set(connection, { at: Date.now(), failed: outcome === "failed" });
    },
    mostFail(issuer) {
      const from = Date.now() - recentMs;
      const recent = [...(byIssuer.get(issuer)?.values() ?? [])].filter(({ at }) => at >= from);
      const failed = recent.filter((one) => one.failed).length;
      return failed >= 2 && failed * 2 > recent.length;
    },
  };
}
