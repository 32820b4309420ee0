import { auditRecord, type RecordedAuditEvent } from "../store/audit-events.ts";

/** `cloudevents`: CloudEvents 1.0 in JSON, with the event as data. */
export type AuditFormat = "json" | "cloudevents";

/** @param issuer the gateway's, which is the source of its events */
export function formatted(
  event: RecordedAuditEvent,
  format: AuditFormat,
  issuer: string,
): Readonly<Record<string, unknown>> {
  const data = auditRecord(event);
  if (format === "json") return data;
  return {
    specversion: "1.0",
    id: String(event.id),
    source: issuer,
    type: `envoy-mcp-auth.${event.action}`,
    time: data.at,
    ...(event.userId !== undefined && { subject: event.userId }),
    datacontenttype: "application/json",
    data,
  };
}
