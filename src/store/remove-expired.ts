import { type RawBuilder, sql } from "kysely";
import type { Database } from "./database.ts";
import type { Tables } from "./tables.ts";

const batchSize = 500;

/**
 * Deletes what has had its time, in batches that lock few rows briefly and pass over those in use, so that no table grows
 * without bound (F4.4).
 * @param options.auditRetentionDays how long the audit trail is kept
 * @returns rows deleted, per table
 */
export async function removeExpired(
  database: Database,
  now: Date,
  options: { auditRetentionDays: number },
): Promise<Record<string, number>> {
  const at = database.clock.toDatabase(now);
  const ago = (days: number) => new Date(at.getTime() - days * 86_400_000);
  const expired: Partial<Record<keyof Tables, RawBuilder<unknown>>> = {
    // A day of grace: an upstream's clock may be behind, and its owner sees a connection that expired, not none.
    upstream_token: sql`(not refreshable and expires_at < ${ago(1)}) or refresh_expires_at < ${ago(1)}`,
    upstream_demand: sql`demanded_at < ${ago(30)}`,
    pending_authorization: sql`expires_at < ${at}`,
    // A server can renew a secret that has ended (RFC 7592), or its clock is behind.
    client_registration: sql`
      secret_expires_at < ${ago(30)} or (client_id is null and (lease_until is null or lease_until < ${at}))`,
    authorization_server_record: sql`expires_at < ${at}`,
    delegation: sql`expires_at < ${at}`,
    browser_session: sql`expires_at < ${at}`,
    // Kept while anything descends from it that must be asked about again (F2.1).
    sign_in_session: sql`
      checked_at < ${ago(90)}
      and not exists (
        select from browser_session
        where browser_session.user_id = sign_in_session.user_id and browser_session.expires_at > ${at})
      and not exists (
        select from authorization_server_record
        where model = 'Grant' and authorization_server_record.user_id = sign_in_session.user_id
        and (authorization_server_record.expires_at is null or authorization_server_record.expires_at > ${at}))
      and not exists (
        select from delegation
        where owner_id = sign_in_session.user_id and delegated_at is not null and delegation.expires_at > ${at})`,
    used_value: sql`expires_at < ${at}`,
    signing_key: sql`expires_at < ${at}`,
    audit_event: sql`audit_event.at < ${ago(options.auditRetentionDays)}`,
  };
  const removed: Record<string, number> = {};
  for (const [table, condition] of Object.entries(expired)) {
    removed[table] = 0;
    for (let batch = batchSize; batch === batchSize; removed[table] += batch)
      batch = await database.write(`${table}.remove_expired`, async (tx) => {
        const { rows } = await sql`
          delete from ${sql.table(table)}
          where ctid = any(array(
            select ctid from ${sql.table(table)} where ${condition} limit ${batchSize} for update skip locked))
          returning 1`.execute(tx);
        return rows.length;
      });
  }
  return removed;
}
