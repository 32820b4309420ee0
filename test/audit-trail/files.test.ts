import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Checkpoint, checkpointVerifier } from "../../src/audit-trail/chain.ts";
import { type AuditFormat, exportBatches, exportedRecords } from "../../src/audit-trail/export-trail.ts";
import { checkpointsIn, verifyFiles } from "../../src/audit-trail/verify-files.ts";
import { startTrail, type TestTrail } from "./start-trail.ts";

/*
 * Somebody who can write to an exported file changes it.
 */

let trail: TestTrail;
/** Batch 1 without events; 1 to 3 and the checkpoint of batch 2; 4 to 6 and that of batch 3. */
let lines: string[];
let verify: (jws: string) => Promise<Checkpoint>;
beforeAll(async () => {
  trail = await startTrail();
  for (let n = 0; n < 2; n++) {
    await trail.write(3);
    await trail.chain.round();
  }
  lines = await exported("json");
  verify = checkpointVerifier(trail.keys.jwks("audit"));
});
afterAll(() => trail.close());

async function exported(format: AuditFormat): Promise<string[]> {
  const found: string[] = [];
  for await (const batch of exportBatches(trail.store.auditTrail, 0))
    found.push(
      ...exportedRecords(batch, format, "https://auth.test").map((record) => JSON.stringify(record)),
    );
  return found;
}
async function* parsed(from: readonly string[]) {
  for (const [n, line] of from.entries()) yield { place: `audit.jsonl:${n + 1}`, value: JSON.parse(line) };
}
const checkpoints = () => checkpointsIn(parsed(lines), verify);
async function findings(from: readonly string[], known: readonly Checkpoint[] = []): Promise<string[]> {
  const found = await verifyFiles(parsed(from), verify, known);
  return found.findings.map(({ problem, id, batch }) => `${problem} ${id ?? `batch ${batch}`}`);
}
const at = (n: number) => lines[n] ?? "";
const forged = () => at(1).replace("company/alice", "company/mallory");

it.each(["json", "cloudevents"] as const)("an unchanged file verifies, as %s", async (format) => {
  expect(await verifyFiles(parsed(await exported(format)), verify)).toMatchObject({
    ...{ findings: [], verified: 6, batches: 3, pending: 0 },
  });
});

it("batches that were delivered twice, or in part and then again, verify", async () => {
  expect(await findings([...lines, ...lines.slice(1)])).toEqual([]);
  expect(await findings([...lines.slice(0, 3), ...lines.slice(1)])).toEqual([]);
});

describe("an attacker with access to a file is found out who", () => {
  it("changes a line", async () => {
    expect(await findings(lines.with(1, forged()))).toEqual(["changed 1"]);
  });

  it("removes a line", async () => {
    expect(await findings(lines.toSpliced(1, 1))).toEqual(["missing 1"]);
  });

  it("exchanges two lines of a batch", async () => {
    expect(await findings(lines.with(1, at(2)).with(2, at(1)))).toEqual(["reordered 2"]);
  });

  it("exchanges the contents of two lines", async () => {
    const other = JSON.stringify({ ...JSON.parse(at(3)), id: 1 });
    const one = JSON.stringify({ ...JSON.parse(at(1)), id: 3 });
    expect(await findings(lines.with(1, other).with(3, one))).toEqual([
      "changed 1",
      "changed 3",
      "swapped 1",
    ]);
  });

  it("moves a line to another batch", async () => {
    expect(await findings(lines.toSpliced(1, 1).toSpliced(5, 0, at(1)))).toEqual(["missing 1", "added 1"]);
  });

  it("adds a line", async () => {
    expect(await findings(lines.toSpliced(1, 0, forged().replace('"id":1', '"id":99')))).toEqual([
      "added 99",
    ]);
  });

  it("adds a line in front of the true one", async () => {
    expect(await findings(lines.toSpliced(1, 0, forged()))).toEqual(["changed 1"]);
  });

  it("adds a line with a copy of an earlier checkpoint behind it, as if it were delivered again", async () => {
    const line = forged().replace('"id":1', '"id":99');
    expect(await findings([...lines, line, at(4)])).toContain("added 99");
    expect(await findings([...lines, forged(), at(4)])).toContain("changed 1");
  });

  it("does so with his own hashes and a true signature", async () => {
    const checkpoint = { ...JSON.parse(at(8)), events: [] };
    expect(await findings([...lines, JSON.stringify(checkpoint)])).toContain("batch_changed batch 3");
  });

  it("removes a batch, or exchanges two", async () => {
    expect(await findings(lines.toSpliced(1, 4))).toEqual(["batch_missing batch 2"]);
    expect(await findings([at(0), ...lines.slice(5), ...lines.slice(1, 5)])).toContain("reordered batch 2");
  });

  it("cuts the end: with checkpoints from elsewhere, or of the log", async () => {
    expect(await findings(lines.slice(0, 5))).toEqual([]);
    expect(await findings(lines.slice(0, 5), await checkpoints())).toEqual(["cut batch 3"]);
  });

  it("cuts within a batch: its events are not in the chain", async () => {
    expect(await verifyFiles(parsed(lines.slice(0, 7)), verify)).toMatchObject({ verified: 3, pending: 2 });
  });

  it("replaces the file by one of another installation", async () => {
    const other = await startTrail();
    const keys = checkpointVerifier(other.keys.jwks("audit"));
    expect(await findings(lines)).toEqual([]);
    const unsigned = (await verifyFiles(parsed(lines), keys)).findings.filter(
      ({ problem }) => problem === "batch_unsigned",
    );
    expect(unsigned).toHaveLength(3);
    await expect(checkpointsIn(parsed(lines), keys)).rejects.toThrow("not in the key set");
    await other.close();
  });
});
