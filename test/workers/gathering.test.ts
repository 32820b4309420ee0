import { describe, expect, it } from "vitest";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { Gathering, type Measured } from "../../src/workers/gathering.ts";
import { mergedMetrics, snapshotOf } from "../../src/workers/merged-metrics.ts";
import type { Order, Snapshot } from "../../src/workers/messages.ts";

const checked = { decision: "allow", reason: "ok", route: "a" };

/** A worker that has counted some checks, and answers when `answers` is called. */
function worker(number: number, checks: number) {
  const metrics = createMetrics();
  metrics.checks.inc(checked, checks);
  const asked: number[] = [];
  const gathered: (readonly Snapshot[])[] = [];
  const made = {
    state: "ready" as Measured["state"],
    snapshot: [] as Snapshot,
    send(order: Order) {
      if (order.kind === "snapshot") asked.push(order.request);
      if (order.kind === "gathered") gathered.push(order.snapshots);
    },
    metrics,
    gathered,
    async measure() {
      made.snapshot = await snapshotOf(metrics.registry, number);
    },
    /** As the supervisor does on a worker's report. */
    async answers(gathering: Gathering) {
      await made.measure();
      for (const request of asked.splice(0))
        gathering.answered({ kind: "snapshot", request, snapshot: made.snapshot });
    },
  };
  return made;
}

/** The number of checks in the newest scrape. */
async function checksIn({ gathered }: Pick<ReturnType<typeof worker>, "gathered">): Promise<number> {
  const text = await mergedMetrics(gathered.at(-1) ?? []);
  return Number(/^envoy_mcp_auth_checks_total\{.*\} (\d+)$/m.exec(text)?.[1]);
}

describe("a scrape of several workers", () => {
  it("counts a worker that ends during it once, and does not fall afterwards", async () => {
    const [asking, ending, next] = [worker(1, 10), worker(2, 5), worker(2, 0)];
    const workers = new Set<Measured>([asking, ending]);
    const gathering = new Gathering(() => workers);
    const first = gathering.answer(asking, 1);
    // It hands over what it has counted, and ends: its place is taken before the other one has answered.
    await ending.measure();
    ending.state = "ended";
    gathering.retire(ending);
    workers.delete(ending);
    workers.add(next);
    await asking.answers(gathering);
    await first;
    expect(await checksIn(asking)).toBe(15);

    next.metrics.checks.inc(checked, 1);
    const second = gathering.answer(asking, 2);
    await Promise.all([asking.answers(gathering), next.answers(gathering)]);
    await second;
    expect(await checksIn(asking)).toBe(16);
  });

  it("counts a worker that does not answer as it last did", async () => {
    const [asking, silent] = [worker(1, 10), worker(2, 5)];
    await silent.measure();
    const gathering = new Gathering(() => [asking, silent]);
    const scrape = gathering.answer(asking, 1);
    await asking.answers(gathering);
    await scrape;
    expect(await checksIn(asking)).toBe(15);
  });
});
