import type { Logger } from "pino";
import type { AuditAction, AuditEvent } from "./audit-events.ts";

/** The message of an action's log line. Without one, the event has a line already: where it is decided or found. */
const messages: Readonly<Record<AuditAction, string | undefined>> = {
  "external_token.issued": "external token issued",
  "external_token.rejected": undefined,
  "external_token.revoked": "external token revoked",
  "refresh_token.reused": "refresh token reused within its grace period",
  "upstream_token.obtained": "upstream token obtained",
  "upstream_token.first_used": undefined,
  "upstream_token.refreshed": "upstream token refreshed",
  "upstream_token.rejected": undefined,
  "upstream_token.revoked": "upstream token revoked",
  "upstream_token.disconnected": "upstream token disconnected",
  "grant.created": "grant created",
  "grant.revoked": "grant revoked",
  "access.ended": "all access ended",
  "consent.denied": undefined,
  "person.signed_in": "user signed in",
  "person.signed_out": "user signed out",
  "person.rejected": "user rejected",
  "policy.denied": undefined,
  "signing_key.rotated": "signing key rotated",
  "encryption_key.rotated": "encryption key rotated",
  "service_account.created": "service account created",
  "service_account.revoked": "service account revoked",
  "delegation.created": "delegation created",
  "delegation.ended": "delegation ended",
  "granted_member.added": "granted member added",
  "granted_member.removed": "granted member removed",
  "route.created": undefined,
  "route.changed": undefined,
  "route.deleted": undefined,
  "admin.signed_in": "signed in on the admin page",
  "admin.signed_out": "signed out of the admin page",
  "audit.pruned": "expired audit events removed",
};

/** Logs a committed audit event, once over all replicas: its line is written by the process that has written the event. */
export function logAuditEvent(logger: Logger, event: AuditEvent): void {
  const message = messages[event.action];
  if (message === undefined) return;
  const { action, actor, userId, clientId, grantId, routeId: route, issuer, reason, requestId } = event;
  // Its query may contain a key.
  const upstream = event.upstream?.split("?")[0];
  // Not `detail`: it differs by action, and some of it comes from other parties.
  logger.info(
    { action, actor, userId, clientId, grantId, route, upstream, issuer, reason, requestId },
    message,
  );
}
