import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { faultTable } from "./fault-table.ts";
import { runFaults } from "./run-faults.ts";

/** The short form of `make faults`: 10 people, 5 routes, 8 s tokens, the most significant faults. */
describe("faults under load", () => {
  let run: Awaited<ReturnType<typeof runFaults>>;
  const table = () => faultTable(run.results, run.strangeCredentials, { timed: false });
  beforeAll(async () => {
    run = await runFaults({ short: true });
  }, 240_000);
  afterAll(() => {
    if (run) process.stdout.write(`${table().text}\n`);
  });

  it("meets all targets: wrong, hung, lost, refreshed without need, allowed after revocation, errors in a rolling restart", () => {
    expect(run.results.length).toBeGreaterThanOrEqual(7);
    expect(table().failures).toEqual([]);
  });
});
