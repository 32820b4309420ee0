import type { AuditBatch, AuditTrail } from "../store/audit-batches.ts";
import { auditRecord, type RecordedAuditEvent } from "../store/audit-events.ts";
import { eventsOf } from "./chain.ts";

/** `cloudevents`: CloudEvents 1.0 in JSON, with the event, or the checkpoint, as data. */
export type AuditFormat = "json" | "cloudevents";

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

type ExportedRecord = Readonly<Record<string, unknown>>;

/** @param issuer the gateway's, which is the source of its events */
export function exportedEvent(
  event: RecordedAuditEvent,
  format: AuditFormat,
  issuer: string,
): ExportedRecord {
  const data = auditRecord(event);
  if (format === "json") return data;
  return {
    ...envelope(issuer, String(event.id), event.action, event.at),
    ...(event.userId !== undefined && { subject: event.userId }),
    data,
  };
}

/**
 * The events of a batch and its checkpoint: with it, they verify without the database. A checkpoint has no `action`, which every event
 * has.
 */
export function exportedRecords(
  { batch, events }: ExportedBatch,
  format: AuditFormat,
  issuer: string,
): ExportedRecord[] {
  const checkpoint = {
    checkpoint: batch.number,
    events: (eventsOf(batch) ?? []).map(({ id, hash }) => [id, hash.toString("base64url")]),
    jws: batch.checkpoint,
  };
  return [
    ...events.map((event) => exportedEvent(event, format, issuer)),
    format === "json"
      ? checkpoint
      : {
          ...envelope(issuer, `checkpoint-${batch.number}`, "audit.checkpoint", batch.lastAt),
          data: checkpoint,
        },
  ];
}

const envelope = (source: string, id: string, type: string, at: Date) => ({
  ...{ specversion: "1.0", id, source, type: `envoy-mcp-auth.${type}`, time: at.toISOString() },
  datacontenttype: "application/json",
});
