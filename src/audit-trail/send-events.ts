import type { AuditTrail } from "../store/audit-batches.ts";
import { type AuditFormat, exportBatches, exportedRecords } from "./export-trail.ts";

/** Where audit events are sent. */
export interface AuditDestination {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly format: AuditFormat;
}

/** The collector did not accept a batch. */
export class DeliveryFailed extends Error {}

/**
 * Sends the batches that the collector does not have yet, in order and at least once: the position is stored after a 2xx response, so
 * what was sent before an interruption is sent again.
 * @param deps.onNext called before a batch is sent, with the time of its earliest event
 * @param signal ends it
 * @throws DeliveryFailed, SafeFetchError
 */
export async function sendEvents(
  deps: {
    readonly trail: AuditTrail;
    readonly fetch: typeof globalThis.fetch;
    /** The gateway's, which is the source of its events. */
    readonly issuer: string;
    readonly onNext: (firstAt: Date) => void;
    readonly onSent: (events: number) => void;
    /** Called if the last batch that was sent is not in the chain any more: then all batches are sent. */
    readonly onRewritten: (batch: number) => void;
  },
  { url, headers, format }: AuditDestination,
  signal: AbortSignal,
): Promise<void> {
  const { trail, fetch, issuer } = deps;
  const { origin, pathname } = new URL(url);
  // Its query may contain a key.
  const destination = `${origin}${pathname}`;
  let sent = await trail.exported(destination);
  let after = sent?.number ?? 0;
  if (sent && (await isRewritten(trail, sent))) {
    deps.onRewritten(sent.number);
    after = 0;
  }
  for await (const exported of exportBatches(trail, after)) {
    deps.onNext(exported.batch.firstAt);
    const records = exportedRecords(exported, format, issuer);
    const response = await fetch(url, {
      method: "POST",
      headers: { ...headers, "content-type": contentTypes[format] },
      body: bodyOf[format](records),
      signal,
    });
    if (!response.ok) throw new DeliveryFailed(`the collector answered ${response.status}`);
    await trail.saveExported(destination, sent?.number, exported.batch);
    sent = exported.batch;
    deps.onSent(exported.events.length);
  }
}

/** Whether the chain has another batch with this number, or ends before it. A batch that has expired is right. */
async function isRewritten(
  trail: AuditTrail,
  sent: { readonly number: number; readonly hash: string },
): Promise<boolean> {
  const [batch] = await trail.batches(sent.number - 1, 1);
  return batch === undefined || (batch.number === sent.number && batch.hash !== sent.hash);
}

const contentTypes = {
  json: "application/x-ndjson",
  cloudevents: "application/cloudevents-batch+json",
} as const satisfies Record<AuditFormat, string>;

const bodyOf: Readonly<Record<AuditFormat, (records: readonly object[]) => string>> = {
  json: (records) => records.map((record) => `${JSON.stringify(record)}\n`).join(""),
  cloudevents: (records) => JSON.stringify(records),
};
