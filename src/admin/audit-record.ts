import type { RecordedAuditEvent } from "../store/audit-events.ts";

/** An audit event as it is exported; `admin-schemas.ts` and docs/monitoring.md describe it. What is not known is left out. */
export function auditRecord(event: RecordedAuditEvent): Readonly<Record<string, unknown>> {
  return {
    id: event.id,
    at: event.at.toISOString(),
    action: event.action,
    user_id: event.userId,
    client_id: event.clientId,
    grant_id: event.grantId,
    route_id: event.routeId,
    upstream: event.upstream,
    issuer: event.issuer,
    reason: event.reason,
    request_id: event.requestId,
    detail: event.detail,
  };
}
