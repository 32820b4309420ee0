import { type Checkpoint, eventsOf, hashBatch, hashRecord, InvalidCheckpoint } from "./chain.ts";
import { ChainVerifier, type Finding, type Verification } from "./verify-trail.ts";

/** A line of an exported file, parsed. */
export interface ExportedLine {
  /** For messages: `audit.jsonl:12`. */
  readonly place: string;
  /** Undefined: not JSON. */
  readonly value: unknown;
}

/**
 * Verifies exported files without the database: each batch of events against the checkpoint line that follows it, and each checkpoint
 * against its signature and the one before it. A file may begin with any batch, and may have been filtered: then events are missing.
 * @param checkpoints exported elsewhere: reveal that the end of the file was cut, or that the chain was written again
 */
export async function verifyFiles(
  lines: AsyncIterable<ExportedLine>,
  verify: (jws: string) => Promise<Checkpoint>,
  checkpoints: readonly Checkpoint[] = [],
): Promise<Verification> {
  const verifier = new ChainVerifier(verify);
  const expected = new Map(checkpoints.map((checkpoint) => [checkpoint.number, checkpoint]));
  let records = new Map<number, Readonly<Record<string, unknown>>>();
  let newest = 0;
  /** Of the last batches: those that may be delivered again. */
  const known = new Map<number, string>();
  for await (const { place, value: line } of lines) {
    // A CloudEvent has the event as its data.
    const value = isRecord(line) && line.specversion !== undefined ? line.data : line;
    if (isRecord(value) && typeof value.id === "number" && value.checkpoint === undefined) {
      const before = records.get(value.id);
      // The same again is a repeated delivery.
      if (before && !hashRecord(before).equals(hashRecord(value)))
        verifier.report({
          problem: "changed",
          id: value.id,
          message: `event ${value.id} is there twice, with different content (${place})`,
        });
      records.set(value.id, value);
      continue;
    }
    const exported = exportedBatch(value);
    if (!exported) {
      verifier.report({ problem: "batch_changed", message: `${place}: neither an event nor a checkpoint` });
      continue;
    }
    const signed = await verify(exported.jws).catch((error: unknown) => {
      if (error instanceof InvalidCheckpoint) return undefined;
      throw error;
    });
    const batch = {
      number: exported.number,
      ids: exported.events.map(([id]) => id),
      hashes: Buffer.concat(exported.events.map(([, hash]) => Buffer.from(hash, "base64url"))),
      previous: signed?.previous ?? "",
      hash: signed?.hash ?? "",
      checkpoint: exported.jws,
    };
    // Sent again, because the acknowledgment was lost.
    const isRepeated =
      known.get(batch.number) === batch.hash &&
      hashBatch(batch.number, batch.previous, eventsOf(batch) ?? []) === batch.hash;
    if (!isRepeated) {
      if (batch.number <= newest)
        verifier.report({
          problem: "reordered",
          batch: batch.number,
          message: `batch ${batch.number} follows batch ${newest} (${place})`,
        });
      newest = Math.max(newest, batch.number);
      await verifier.batch(batch);
      remember(known, batch);
    }
    verifier.events(batch, records, false, isRepeated);
    reportOthers(verifier, batch, records, place);
    const other = expected.get(batch.number);
    if (other && other.hash !== batch.hash)
      verifier.report({
        problem: "rewritten",
        batch: batch.number,
        message: `batch ${batch.number} is not the one that was exported earlier`,
      });
    expected.delete(batch.number);
    records = new Map();
  }
  for (const number of [...expected.keys()].filter((one) => one > newest))
    verifier.report({
      problem: "cut",
      batch: number,
      message: `the files end with batch ${newest}, but batch ${number} was exported elsewhere`,
    });
  verifier.findSwaps();
  return {
    ...{ findings: verifier.findings, verified: verifier.verified, batches: verifier.batches },
    ...{ pending: records.size, before: 0 },
    ...(verifier.last && { last: verifier.last }),
  };
}

const mostKnown = 10_000;
function remember(known: Map<number, string>, { number, hash }: { number: number; hash: string }): void {
  known.set(number, hash);
  const [first] = known.keys();
  if (known.size > mostKnown && first !== undefined) known.delete(first);
}

/** Events that the batch does not have, or in another order. */
function reportOthers(
  verifier: { report(finding: Finding): void },
  { number, ids }: { readonly number: number; readonly ids: readonly number[] },
  records: ReadonlyMap<number, unknown>,
  place: string,
): void {
  const known = new Set(ids);
  for (const id of records.keys())
    if (!known.has(id))
      verifier.report({
        problem: "added",
        id,
        batch: number,
        message: `event ${id} is not in batch ${number} (${place})`,
      });
  const order = [...records.keys()].filter((id) => known.has(id));
  const wanted = ids.filter((id) => records.has(id));
  const wrong = order.findIndex((id, n) => id !== wanted[n]);
  const id = order[wrong];
  if (id !== undefined)
    verifier.report({
      problem: "reordered",
      id,
      batch: number,
      message: `event ${id} is not in its place (batch ${number})`,
    });
}

interface ExportedBatchLine {
  readonly number: number;
  readonly events: readonly (readonly [number, string])[];
  readonly jws: string;
}

function exportedBatch(value: unknown): ExportedBatchLine | undefined {
  if (!isRecord(value)) return undefined;
  const { checkpoint: number, events, jws } = value;
  if (typeof number !== "number" || typeof jws !== "string" || !Array.isArray(events)) return undefined;
  if (!events.every(isEventHash)) return undefined;
  return { number, events, jws };
}

const isEventHash = (value: unknown): value is [number, string] =>
  Array.isArray(value) && typeof value[0] === "number" && typeof value[1] === "string";

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The verified checkpoints among the lines of a file. @throws InvalidCheckpoint */
export async function checkpointsIn(
  lines: AsyncIterable<ExportedLine>,
  verify: (jws: string) => Promise<Checkpoint>,
): Promise<Checkpoint[]> {
  const checkpoints: Checkpoint[] = [];
  for await (const { value } of lines)
    if (isRecord(value) && typeof value.jws === "string") checkpoints.push(await verify(value.jws));
  return checkpoints;
}
