import type { AuditBatch, AuditTrail } from "../store/audit-batches.ts";
import type { RecordedAuditEvent } from "../store/audit-events.ts";
import { eventsOf } from "./chain.ts";

/** A batch with its events, in the order of the chain. Expired or removed events are left out. */
export interface ExportedBatch {
  readonly batch: AuditBatch;
  readonly events: readonly RecordedAuditEvent[];
}

const batchesAtOnce = 20;

/** The batches after number `after`, with their events: what an export reads that goes on where it stopped. */
export async function* exportBatches(trail: AuditTrail, after: number): AsyncGenerator<ExportedBatch> {
  for (let last = after; ; ) {
    const batches = await trail.batches(last, batchesAtOnce);
    for (const batch of batches) yield { batch, events: await eventsInOrder(trail, batch) };
    const end = batches.at(-1)?.number;
    if (end === undefined) return;
    last = end;
  }
}

async function eventsInOrder(trail: AuditTrail, batch: AuditBatch): Promise<RecordedAuditEvent[]> {
  if (batch.ids.length === 0) return [];
  const events = await trail.events(batch.ids, { from: batch.firstAt, to: batch.lastAt });
  const byId = new Map(events.map((event) => [event.id, event]));
  return batch.ids.flatMap((id) => byId.get(id) ?? []);
}

/**
 * The line of a batch in an exported file: with it, the events before it verify without the database. It has no `action`, which every
 * event has.
 */
export function checkpointLine(batch: AuditBatch): Readonly<Record<string, unknown>> {
  return {
    checkpoint: batch.number,
    events: (eventsOf(batch) ?? []).map(({ id, hash }) => [id, hash.toString("base64url")]),
    jws: batch.checkpoint,
  };
}
