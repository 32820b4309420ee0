import type { AuditBatch, AuditTrail } from "../store/audit-batches.ts";
import { auditRecord, type RecordedAuditEvent } from "../store/audit-events.ts";
import { type Checkpoint, eventsOf, type Floor, hashBatch, hashRecord, InvalidCheckpoint } from "./chain.ts";
import { lateMs } from "./chain-events.ts";

/** Something that is not as it was recorded. */
export interface Finding {
  readonly problem:
    | "changed"
    | "swapped"
    | "missing"
    | "added"
    | "reordered"
    | "batch_missing"
    | "batch_changed"
    | "batch_unsigned"
    | "cut"
    | "rewritten";
  /** The event. */
  readonly id?: number;
  readonly batch?: number;
  readonly message: string;
}

/** The outcome of a verification. */
export interface Verification {
  readonly findings: readonly Finding[];
  /** Events that are as they were recorded. */
  readonly verified: number;
  readonly batches: number;
  /** Events of the last minutes that are not chained yet. */
  readonly pending: number;
  /** Events from before the chain began. */
  readonly before: number;
  /** Up to where the chain verifies. */
  readonly last?: Checkpoint;
  readonly since?: Date;
  readonly floor?: Floor;
}

/** Findings up to this many are reported one by one. */
export const mostFindings = 10_000;
const batchesAtOnce = 50;
const eventsAtOnce = 20_000;

/** Verifies the batches of a chain one after another, in the order of their numbers. */
export class ChainVerifier {
  readonly findings: Finding[] = [];
  verified = 0;
  batches = 0;
  last: Checkpoint | undefined;
  readonly #verify: (jws: string) => Promise<Checkpoint>;
  #before: Pick<AuditBatch, "number" | "hash"> | undefined;
  /** Events with another hash than recorded, to find those that were swapped. */
  readonly #changed = new Map<
    number,
    { readonly record: Readonly<Record<string, unknown>>; readonly hash: string }
  >();

  constructor(verify: (jws: string) => Promise<Checkpoint>) {
    this.#verify = verify;
  }

  report(finding: Finding): void {
    if (this.findings.length < mostFindings) this.findings.push(finding);
  }

  /** Verifies the batch itself. @returns its checkpoint, unless its signature is invalid */
  async batch(batch: Omit<AuditBatch, "firstAt" | "lastAt">): Promise<Checkpoint | undefined> {
    const { number } = batch;
    this.batches++;
    const expected = this.#before && this.#before.number + 1;
    if (expected !== undefined && number > expected)
      this.report({
        problem: "batch_missing",
        batch: expected,
        message:
          number === expected + 1
            ? `batch ${expected} is missing`
            : `batches ${expected} to ${number - 1} are missing`,
      });
    const follows = this.#before === undefined || number !== expected || batch.previous === this.#before.hash;
    this.#before = batch;
    const events = eventsOf(batch);
    const changed = (message: string) => this.report({ problem: "batch_changed", batch: number, message });
    if (!events) changed(`batch ${number}: its ids and hashes do not match`);
    else if (hashBatch(number, batch.previous, events) !== batch.hash)
      changed(`batch ${number}: its events are not those that it was made of`);
    if (!follows) changed(`batch ${number} does not follow the batch before it`);
    try {
      const checkpoint = await this.#verify(batch.checkpoint);
      if (
        checkpoint.number !== number ||
        checkpoint.hash !== batch.hash ||
        checkpoint.previous !== batch.previous
      ) {
        changed(`batch ${number} is not the one that its checkpoint signs`);
        return undefined;
      }
      this.last = checkpoint;
      return checkpoint;
    } catch (error) {
      if (!(error instanceof InvalidCheckpoint)) throw error;
      this.report({ problem: "batch_unsigned", batch: number, message: `batch ${number}: ${error.message}` });
      return undefined;
    }
  }

  /**
   * Compares events with what a batch recorded.
   * @param present exported records by id
   * @param expired whether missing events have expired
   * @param counted whether the same batch was verified before
   */
  events(
    batch: Pick<AuditBatch, "number" | "ids" | "hashes">,
    present: ReadonlyMap<number, Readonly<Record<string, unknown>>>,
    expired: boolean,
    counted = false,
  ): void {
    for (const { id, hash } of eventsOf(batch) ?? []) {
      const record = present.get(id);
      if (record === undefined) {
        if (!expired)
          this.report({
            problem: "missing",
            id,
            batch: batch.number,
            message: `event ${id} is missing (batch ${batch.number})`,
          });
      } else if (hashRecord(record).equals(hash)) this.verified += counted ? 0 : 1;
      else {
        this.#changed.set(id, { record, hash: hash.toString("base64url") });
        this.report({
          problem: "changed",
          id,
          batch: batch.number,
          message: `event ${id} was changed (batch ${batch.number})`,
        });
      }
    }
  }

  /** Names pairs of changed events whose contents were exchanged. */
  findSwaps(): void {
    if (this.#changed.size > 1_000) return;
    for (const [id, { record }] of this.#changed)
      for (const [other, { hash }] of this.#changed)
        if (id < other && hashRecord({ ...record, id: other }).toString("base64url") === hash)
          this.report({ problem: "swapped", id, message: `events ${id} and ${other} were exchanged` });
  }
}

/**
 * Verifies the audit trail in the database: every event against its batch, every batch against the one before it and its signature.
 * @param deps.checkpoints exported earlier: reveal that the end of the chain was cut, or that it was written again
 * @param deps.invalid called for checkpoints among them that are not signed
 */
export async function verifyTrail(deps: {
  readonly trail: AuditTrail;
  readonly verify: (jws: string) => Promise<Checkpoint>;
  readonly checkpoints?: readonly Checkpoint[];
}): Promise<Verification> {
  const { trail, verify, checkpoints = [] } = deps;
  const verifier = new ChainVerifier(verify);
  const now = await trail.now();
  const latest = await trail.latest();
  const newest = latest && (await verify(latest.checkpoint).catch(() => undefined));
  const { floor, since } = newest ?? {};
  const expected = new Map(checkpoints.map((checkpoint) => [checkpoint.number, checkpoint]));
  let first: number | undefined;
  for (let after = 0; ; ) {
    const batches = await trail.batches(after, batchesAtOnce);
    for (const batch of batches) {
      if (first === undefined) checkStart(verifier, batch, floor);
      first ??= batch.number;
      await verifier.batch(batch);
      compareWithExported(verifier, batch, expected.get(batch.number));
      expected.delete(batch.number);
      const { firstAt: from, lastAt: to } = batch;
      const events = await trail.events(batch.ids, { from, to });
      // Found by its time, which may have been changed.
      const lost = batch.ids.filter((id) => !events.some((event) => event.id === id));
      const moved =
        lost.length === 0 ? [] : await trail.events(lost, { from: new Date(0), to: new Date(4e12) });
      verifier.events(batch, recordsOf([...events, ...moved]), floor !== undefined && to < floor.before);
    }
    const end = batches.at(-1)?.number;
    if (end === undefined) break;
    after = end;
  }
  for (const { number } of expected.values())
    if (number >= (floor?.batch ?? 0))
      verifier.report(
        number > (latest?.number ?? 0)
          ? {
              problem: "cut",
              batch: number,
              message: `the chain ends with batch ${latest?.number ?? 0}, but batch ${number} was exported earlier`,
            }
          : {
              problem: "batch_missing",
              batch: number,
              message: `batch ${number}, exported earlier, is missing`,
            },
      );
  verifier.findSwaps();
  const others = await findUnchained(trail, { now, since, floor });
  for (const { id } of others.added)
    verifier.report({ problem: "added", id, message: `event ${id} is not in the chain` });
  return {
    ...{ findings: verifier.findings, verified: verifier.verified, batches: verifier.batches },
    ...{ pending: others.pending, before: others.before },
    ...(verifier.last && { last: verifier.last }),
    ...(since && { since }),
    ...(floor && { floor }),
  };
}

const recordsOf = (events: readonly RecordedAuditEvent[]) =>
  new Map(events.map((event) => [event.id, auditRecord(event)]));

/** Only a signed checkpoint can say that the beginning has expired. */
function checkStart(verifier: ChainVerifier, { number }: AuditBatch, floor: Floor | undefined): void {
  const allowed = floor?.batch ?? 1;
  if (number > allowed)
    verifier.report({
      problem: "batch_missing",
      batch: allowed,
      message: `batches ${allowed} to ${number - 1} are missing, and have not expired`,
    });
}

function compareWithExported(
  verifier: ChainVerifier,
  { number, hash }: AuditBatch,
  exported: Checkpoint | undefined,
): void {
  if (exported && exported.hash !== hash)
    verifier.report({
      problem: "rewritten",
      batch: number,
      message: `batch ${number} is not the one that was exported earlier: the chain was written again`,
    });
}

/**
 * Events that are in no batch.
 * @param options.after looks at greater ids only
 * @param options.most events to look at
 * @returns with `settledId`: up to there, no event can still be chained
 */
export async function findUnchained(
  trail: AuditTrail,
  options: {
    readonly now: Date;
    readonly since: Date | undefined;
    readonly floor: Floor | undefined;
    readonly after?: number;
    readonly most?: number;
  },
): Promise<{ added: { id: number; at: Date }[]; pending: number; before: number; settledId?: number }> {
  const { now, since, floor, most = Number.POSITIVE_INFINITY } = options;
  const found = { added: [] as { id: number; at: Date }[], pending: 0, before: 0 };
  let settledId: number | undefined;
  let looked = 0;
  for (let after = options.after ?? Number.MIN_SAFE_INTEGER; looked < most; ) {
    const events = await trail.eventTimes(after, eventsAtOnce);
    const last = events.at(-1);
    if (last === undefined) break;
    const chained = await trail.chained(events.map(({ id }) => id));
    for (const event of events) {
      const isPending = !chained.has(event.id) && event.at > new Date(now.getTime() - lateMs);
      if (found.pending === 0 && !isPending) settledId = event.id;
      if (chained.has(event.id)) continue;
      if (isPending) found.pending++;
      else if (since === undefined || event.at < since) found.before++;
      else if (floor === undefined || event.at >= floor.before) found.added.push(event);
    }
    looked += events.length;
    after = last.id;
  }
  return { ...found, ...(settledId !== undefined && { settledId }) };
}
