import type { Transaction } from "kysely";
import { notifyAll } from "./notifications/notifications.ts";
import type { Tables } from "./tables.ts";

const records = "authorization_server_record";

/**
 * Deletes grants with everything that belongs to them, in the caller's transaction, and notifies every replica. The number of statements
 * does not depend on the number of grants.
 * @param grantIds at most a few thousand
 * @returns the ids of those that had records
 */
export async function deleteGrants(
  tx: Transaction<Tables>,
  grantIds: readonly string[],
): Promise<ReadonlySet<string>> {
  if (grantIds.length === 0) return new Set();
  // Same order as a rotation, to avoid deadlocks. What a rotation inserts before this lock is granted, the next statement sees.
  await tx
    .selectFrom(records)
    .select("model")
    .where("grant_id", "in", grantIds)
    .orderBy("model")
    .orderBy("id_name")
    .forUpdate()
    .execute();
  const rows = await tx.deleteFrom(records).where("grant_id", "in", grantIds).returning("grant_id").execute();
  for (const table of ["delegation", "aggregate_session", "granted_member"] as const)
    await tx.deleteFrom(table).where("grant_id", "in", grantIds).execute();
  const ended = new Set(rows.map(({ grant_id }) => grant_id ?? ""));
  await notifyAll(
    tx,
    [...ended].map((grantId) => ({ table: "grant", grantId })),
  );
  return ended;
}
