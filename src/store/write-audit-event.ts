import type { Transaction } from "kysely";
import type { AuditEvent } from "./audit-event.ts";
import type { Tables } from "./tables.ts";

/** Appends `event` to the audit trail, in the transaction of what it tells of. */
export async function writeAuditEvent(tx: Transaction<Tables>, event: AuditEvent): Promise<void> {
  await tx
    .insertInto("audit_event")
    .values({
      action: event.action,
      user_id: event.userId ?? null,
      client_id: event.clientId ?? null,
      grant_id: event.grantId ?? null,
      route_id: event.routeId ?? null,
      upstream: event.upstream ?? null,
      issuer: event.issuer ?? null,
      reason: event.reason ?? null,
      request_id: event.requestId ?? null,
      detail: event.detail === undefined ? null : JSON.stringify(event.detail),
    })
    .execute();
}
