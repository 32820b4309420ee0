import { AggregatorRegistry, type Registry } from "prom-client";
import type { Snapshot } from "./messages.ts";

const own = /^envoy_mcp_auth_/;

/**
 * The metrics of one worker. What describes the process (`process_*`, `nodejs_*`) gets the label `worker`: a sum of memory is useful, a
 * sum of start times or event loop delays is not.
 */
export async function snapshotOf(registry: Registry, worker: number): Promise<Snapshot> {
  // Its type lacks the names of a histogram's parts, which `aggregate` needs.
  const metrics = (await registry.getMetricsAsJSON()) as unknown as Snapshot;
  return metrics.map((metric) => (own.test(metric.name) ? metric : labelled(metric, String(worker))));
}

function labelled(metric: Snapshot[number], worker: string): Snapshot[number] {
  const values = metric.values.map((value) => ({ ...value, labels: { ...value.labels, worker } }));
  return { ...metric, values, aggregator: "first" };
}

/** The metrics of all processes as Prometheus reads them: sums, unless the metric says otherwise. */
export function mergedMetrics(snapshots: readonly Snapshot[]): Promise<string> {
  return AggregatorRegistry.aggregate([...snapshots]).metrics();
}
