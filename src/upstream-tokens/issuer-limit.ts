import type { LRUCache } from "lru-cache";
import { boundedCache } from "../util/bounded-cache.ts";

/** Runs at most `max` tasks per issuer at a time; the others wait in order of arrival. */
export function createIssuerLimit(max: number): <T>(issuer: string, task: () => Promise<T>) => Promise<T> {
  const lanes = new Map<string, { running: number; waiting: (() => void)[] }>();
  return async (issuer, task) => {
    const lane = lanes.get(issuer) ?? { running: 0, waiting: [] };
    lanes.set(issuer, lane);
    if (lane.running >= max) await new Promise<void>((resolve) => lane.waiting.push(resolve));
    else lane.running++;
    try {
      return await task();
    } finally {
      const next = lane.waiting.shift();
      if (next) next();
      else if (--lane.running === 0) lanes.delete(issuer);
    }
  };
}

/** The outcome of this replica's latest refresh of each connection, by issuer. */
export interface IssuerOutcomes {
  record(issuer: string, connection: string, outcome: "well" | "failed"): void;
  /** Whether most recently refreshed connections fail; a single failure does not count. */
  mostFail(issuer: string): boolean;
}

/** What counts as recent, ms. */
const lateMs = 10 * 60_000;

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
      const from = Date.now() - lateMs;
      const late = [...(byIssuer.get(issuer)?.values() ?? [])].filter(({ at }) => at >= from);
      const failed = late.filter((one) => one.failed).length;
      return failed >= 2 && failed * 2 > late.length;
    },
  };
}
