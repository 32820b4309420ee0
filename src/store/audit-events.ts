import { sql, type Transaction } from "kysely";
import type { Database } from "./database.ts";
import type { Tables } from "./tables.ts";

/** Filter for audit events; all given conditions must hold. */
export interface AuditFilter {
  /** Only events with a greater id. */
  readonly after?: number;
  readonly since?: Date;
  readonly until?: Date;
  /** A renamed action is found by its new and its former name. */
  readonly action?: string;
  readonly userId?: string;
  readonly routeId?: string;
  /** Only events that no pending transaction can precede: an export that continues with `after` misses none. */
  readonly settled?: boolean;
  readonly limit: number;
}

/** An event as read; `action` may come from a newer version. */
export interface RecordedAuditEvent extends Omit<AuditEvent, "action"> {
  readonly id: number;
  readonly at: Date;
  readonly action: string;
}

/** Kinds of audit events: what happened to a token or a grant. */
export const auditActions = [
  "external_token.issued",
  "external_token.rejected",
  "external_token.revoked",
  "refresh_token.reused",
  "upstream_token.obtained",
  "upstream_token.first_used",
  "upstream_token.refreshed",
  "upstream_token.rejected",
  "upstream_token.revoked",
  "upstream_token.disconnected",
  "grant.created",
  "grant.revoked",
  "access.ended",
  "consent.denied",
  "person.signed_in",
  "person.signed_out",
  "person.rejected",
  "policy.denied",
  "signing_key.rotated",
  "encryption_key.rotated",
  "service_account.created",
  "service_account.revoked",
  "delegation.created",
  "delegation.ended",
  "granted_member.added",
  "granted_member.removed",
  "route.created",
  "route.changed",
  "route.deleted",
] as const;
export type AuditAction = (typeof auditActions)[number];

/** New and former name of each renamed action: rows of earlier versions, and of replicas that still run them, keep the former one. */
export const renamedActions = [
  ["external_token.rejected", "external_token.refused"],
  ["refresh_token.reused", "refresh_token.repeated"],
  ["upstream_token.rejected", "upstream_token.refused"],
  ["consent.denied", "consent.refused"],
  ["person.rejected", "person.refused"],
  ["policy.denied", "policy.refused"],
  ["delegation.created", "delegation.given"],
] as const satisfies readonly (readonly [AuditAction, string])[];

/** The names under which events of a kind are stored, by its new or its former name. */
function storedNames(action: string): readonly string[] {
  return renamedActions.find((names) => names.some((name) => name === action)) ?? [action];
}

/** One entry of the audit trail. Contains ids and reasons, never a token, secret or code. */
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

/** Appends `event` to the audit trail, in the transaction of the change it records. */
export async function writeAuditEvent(tx: Transaction<Tables>, event: AuditEvent): Promise<void> {
  await tx.insertInto("audit_event").values(valuesOf(event)).execute();
}

function valuesOf(event: AuditEvent) {
  return {
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
  };
}

const textColumns = [
  "action",
  "user_id",
  "client_id",
  "grant_id",
  "route_id",
  "upstream",
  "issuer",
  "reason",
  "request_id",
] as const;

/** For `insert into audit_event (names) select of(event) from ...`: an event in the statement of the change that it records. */
export const auditColumns = {
  names: [...textColumns, "detail"],
  of(event: AuditEvent) {
    const { detail, ...values } = valuesOf(event);
    return [
      ...textColumns.map((name) => sql<string | null>`${values[name]}::text`.as(name)),
      sql`${detail}::jsonb`.as("detail"),
    ];
  },
} as const;

/** At most `limit` audit events in the order of their ids: pass the last id as `after` for more. */
export async function readAuditEvents(
  database: Database,
  filter: AuditFilter,
): Promise<RecordedAuditEvent[]> {
  const rows = await database.read("audit_event.list", (db) => {
    let query = db.selectFrom("audit_event").selectAll().orderBy("id").limit(filter.limit);
    if (filter.after !== undefined) query = query.where("id", ">", filter.after);
    if (filter.since !== undefined) query = query.where("at", ">=", filter.since);
    if (filter.until !== undefined) query = query.where("at", "<", filter.until);
    if (filter.action !== undefined) query = query.where("action", "in", storedNames(filter.action));
    if (filter.userId !== undefined) query = query.where("user_id", "=", filter.userId);
    if (filter.routeId !== undefined) query = query.where("route_id", "=", filter.routeId);
    // Ids are assigned when a transaction writes, not when it commits; no transaction lasts this long.
    if (filter.settled) query = query.where("at", "<", sql<Date>`now() - interval '15 seconds'`);
    return query.execute();
  });
  return rows.map((row) => ({
    id: row.id,
    at: row.at,
    action: row.action,
    userId: row.user_id ?? undefined,
    clientId: row.client_id ?? undefined,
    grantId: row.grant_id ?? undefined,
    routeId: row.route_id ?? undefined,
    upstream: row.upstream ?? undefined,
    issuer: row.issuer ?? undefined,
    reason: row.reason ?? undefined,
    requestId: row.request_id ?? undefined,
    detail: row.detail ?? undefined,
  }));
}

/** An audit event in export format (docs/monitoring.md). Unknown values are omitted. */
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
