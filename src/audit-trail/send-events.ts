import type { AuditTrail } from "../store/audit-batches.ts";
import { checkpointLine, type ExportedBatch, exportBatches } from "./export-trail.ts";
import { type AuditFormat, formatted } from "./formats.ts";

/** Where audit events are sent. */
export interface AuditDestination {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly format: AuditFormat;
}

/** The receiver did not accept a batch. */
export class DeliveryFailed extends Error {}

const contentTypes = {
  json: "application/x-ndjson",
  cloudevents: "application/cloudevents-batch+json",
} as const satisfies Record<AuditFormat, string>;

/**
 * Sends the batches that the destination does not have yet, in order and at least once: the position is stored after a 2xx response, so
 * what was sent before an interruption is sent again. Batches without events are skipped, unless checkpoints are sent.
 * @param signal ends it between two batches
 * @returns when the last event that was sent was written
 * @throws DeliveryFailed, SafeFetchError
 */
export async function sendEvents(
  deps: {
    readonly trail: AuditTrail;
    readonly fetch: typeof globalThis.fetch;
    readonly issuer: string;
    readonly onSent: (events: number) => void;
  },
  destination: AuditDestination,
  signal: AbortSignal,
): Promise<void> {
  const { trail, onSent } = deps;
  const after = (await trail.exported(destination.url)) ?? 0;
  for await (const exported of exportBatches(trail, after)) {
    if (signal.aborted) return;
    const sent = exported.events.length > 0 || destination.format === "json";
    if (sent) await send(deps, destination, exported);
    await trail.saveExported(destination.url, exported.batch.number);
    onSent(exported.events.length);
  }
}

async function send(
  { fetch, issuer }: { readonly fetch: typeof globalThis.fetch; readonly issuer: string },
  { url, headers, format }: AuditDestination,
  { batch, events }: ExportedBatch,
): Promise<void> {
  const values = events.map((event) => formatted(event, format, issuer));
  const body =
    format === "cloudevents"
      ? JSON.stringify(values)
      : [...values, checkpointLine(batch)].map((value) => `${JSON.stringify(value)}\n`).join("");
  const response = await fetch(url, {
    method: "POST",
    headers: { ...headers, "content-type": contentTypes[format] },
    body,
  });
  if (!response.ok) throw new DeliveryFailed(`the receiver of audit events answered ${response.status}`);
}
