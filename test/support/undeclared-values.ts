import { valuesOf } from "../../src/telemetry/label-values.ts";
import type { Metrics } from "../../src/telemetry/metrics.ts";

/** What a registry has measured under label values that are not declared, as `metric{label="value"}`. */
export async function undeclaredValues({ registry }: Pick<Metrics, "registry">): Promise<string[]> {
  const found = new Set<string>();
  for (const { name, values } of await registry.getMetricsAsJSON()) {
    const metric = /^envoy_mcp_auth_(\w+)$/.exec(name)?.[1];
    for (const { labels } of metric === undefined ? [] : values)
      for (const [label, value] of Object.entries(labels)) {
        const declared = label === "le" ? "" : valuesOf(metric ?? "", label);
        const isDeclared = Array.isArray(declared)
          ? declared.includes(String(value))
          : declared !== undefined;
        if (!isDeclared) found.add(`${metric}{${label}="${value}"}`);
      }
  }
  return [...found];
}
