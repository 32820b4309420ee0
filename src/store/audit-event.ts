/** Kinds of audit events (F7.3): what happened to a token or a grant. */
export type AuditAction =
  | "external_token.issued"
  | "external_token.refused"
  | "external_token.revoked"
  | "refresh_token.repeated"
  | "upstream_token.obtained"
  | "upstream_token.first_used"
  | "upstream_token.refreshed"
  | "upstream_token.refused"
  | "upstream_token.revoked"
  | "upstream_token.disconnected"
  | "grant.created"
  | "grant.revoked"
  | "access.ended"
  | "consent.refused"
  | "person.signed_in"
  | "person.signed_out"
  | "person.refused"
  | "policy.refused"
  | "signing_key.rotated"
  | "encryption_key.rotated"
  | "service_account.created"
  | "service_account.revoked"
  | "delegation.given"
  | "delegation.ended"
  | "route.created"
  | "route.changed"
  | "route.deleted";

/** One line of the audit trail. Never a token, a secret or a code: ids and reasons only. */
export interface AuditEvent {
  readonly action: AuditAction;
  readonly userId?: string;
  readonly clientId?: string;
  readonly grantId?: string;
  readonly routeId?: string;
  readonly upstream?: string;
  readonly issuer?: string;
  readonly reason?: string;
  readonly requestId?: string;
  readonly detail?: Readonly<Record<string, string | number | boolean>>;
}
