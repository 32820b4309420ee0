import { sql } from "kysely";
import type { Database } from "./database.ts";
import type { AuditFilter, RecordedAuditEvent } from "./store.ts";

/** Audit events in the order of their ids, at most `limit`: pass the last one's id as `after` for more. */
export async function readAuditEvents(
  database: Database,
  filter: AuditFilter,
): Promise<RecordedAuditEvent[]> {
  const rows = await database.read("audit_event.list", (db) => {
    let query = db.selectFrom("audit_event").selectAll().orderBy("id").limit(filter.limit);
    if (filter.after !== undefined) query = query.where("id", ">", filter.after);
    if (filter.since !== undefined) query = query.where("at", ">=", filter.since);
    if (filter.until !== undefined) query = query.where("at", "<", filter.until);
    if (filter.action !== undefined) query = query.where("action", "=", filter.action);
    if (filter.userId !== undefined) query = query.where("user_id", "=", filter.userId);
    if (filter.routeId !== undefined) query = query.where("route_id", "=", filter.routeId);
    // Ids are drawn when a transaction writes, not when it commits; none lasts as long as this.
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
