import type { Snapshot } from "./messages.ts";

/**
 * Counts of processes that have ended: without it, the sums over all workers would fall when a worker is replaced, and Prometheus
 * would take that for a reset of all of them.
 */
export class RetiredMetrics {
  readonly #metrics = new Map<string, { metric: Snapshot[number]; values: Map<string, Value> }>();

  /** Adds the counters and histograms of a process that has ended. Gauges end with it. */
  add(snapshot: Snapshot): void {
    for (const metric of snapshot) {
      const { type, name } = metric;
      if ((type !== "counter" && type !== "histogram") || !name.startsWith("envoy_mcp_auth_")) continue;
      const known = this.#metrics.get(metric.name) ?? { metric, values: new Map<string, Value>() };
      this.#metrics.set(metric.name, known);
      for (const value of metric.values) {
        const key = JSON.stringify([value.metricName, Object.entries(value.labels).toSorted()]);
        known.values.set(key, { ...value, value: (known.values.get(key)?.value ?? 0) + value.value });
      }
    }
  }

  snapshot(): Snapshot {
    return [...this.#metrics.values()].map(({ metric, values }) => ({
      ...metric,
      values: [...values.values()],
    }));
  }
}

type Value = Snapshot[number]["values"][number];
