import type { Metrics } from "../../src/telemetry/metrics.ts";

/**
 * All series of one metric as scraped: labels as printed, and the value.
 * @param name without the product's prefix; of a histogram with `_count`
 */
export async function scraped(
  { registry }: Pick<Metrics, "registry">,
  name: string,
): Promise<Record<string, number>> {
  const series = new RegExp(`^envoy_mcp_auth_${name}(?:\\{(.*)\\})? (\\S+)$`, "gm");
  const lines = (await registry.metrics()).matchAll(series);
  return Object.fromEntries([...lines].map(([, labels = "", value]) => [labels, Number(value)]));
}
