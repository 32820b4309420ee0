import { describe, expect, it } from "vitest";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { mergedMetrics, snapshotOf } from "../../src/workers/merged-metrics.ts";
import { RetiredMetrics } from "../../src/workers/retired-metrics.ts";

const lines = (text: string, name: string) =>
  text.split("\n").filter((line) => line.startsWith(`envoy_mcp_auth_${name}`) || line.startsWith(name));

describe("metrics of several workers", () => {
  it("counters, histograms and amounts are added up; states hold if they hold for all", async () => {
    const [one, two] = [createMetrics({ process: true }), createMetrics({ process: true })];
    const denied = { decision: "deny", reason: "policy", route: "a" };
    one.checks.inc(denied, 2);
    two.checks.inc(denied, 3);
    one.checkDuration.observe({ decision: "allow" }, 0.002);
    two.checkDuration.observe({ decision: "allow" }, 0.02);
    one.storeListenerUp.set(1);
    two.storeListenerUp.set(0);
    one.aggregationStreams.set(4);
    two.aggregationStreams.set(5);
    for (const metrics of [one, two]) metrics.routes.set({ source: "file" }, 7);
    const text = await mergedMetrics([await snapshotOf(one.registry, 1), await snapshotOf(two.registry, 2)]);
    expect(lines(text, "checks_total")).toEqual([
      'envoy_mcp_auth_checks_total{decision="deny",reason="policy",route="a"} 5',
    ]);
    expect(lines(text, "check_duration_seconds_count")).toEqual([
      'envoy_mcp_auth_check_duration_seconds_count{decision="allow"} 2',
    ]);
    expect(lines(text, "store_listener_up")).toEqual(["envoy_mcp_auth_store_listener_up 0"]);
    expect(lines(text, "aggregation_streams")).toEqual(["envoy_mcp_auth_aggregation_streams 9"]);
    expect(lines(text, "routes{")).toEqual(['envoy_mcp_auth_routes{source="file"} 7']);
    for (const name of ["process_start_time_seconds", "nodejs_eventloop_lag_p99_seconds"])
      expect(lines(text, name)).toEqual([
        expect.stringMatching(`^${name}{worker="1"} `),
        expect.stringMatching(`^${name}{worker="2"} `),
      ]);
  });

  it("what a worker has counted stays when it has ended, what it held does not", async () => {
    const retired = new RetiredMetrics();
    const checked = { decision: "allow", reason: "ok", route: "a" };
    for (let ended = 0; ended < 3; ended++) {
      const metrics = createMetrics({ process: true });
      metrics.checks.inc(checked, 10);
      metrics.checkDuration.observe({ decision: "allow" }, 0.002);
      metrics.aggregationStreams.set(4);
      retired.add(await snapshotOf(metrics.registry, 1));
    }
    const metrics = createMetrics();
    metrics.checks.inc(checked);
    const text = await mergedMetrics([await snapshotOf(metrics.registry, 1), retired.snapshot()]);
    expect(lines(text, "checks_total")).toEqual([
      'envoy_mcp_auth_checks_total{decision="allow",reason="ok",route="a"} 31',
    ]);
    expect(lines(text, "check_duration_seconds_bucket")).toContain(
      'envoy_mcp_auth_check_duration_seconds_bucket{le="0.0025",decision="allow"} 3',
    );
    expect(lines(text, "aggregation_streams")).toEqual(["envoy_mcp_auth_aggregation_streams 0"]);
    expect(lines(text, "process_resident_memory_bytes")).toEqual([]);
  });
});
