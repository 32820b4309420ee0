import type { Kysely } from "kysely";

/**
 * How far a pass over all rows has come (`rotate-keys`, the first MACs), so that another process continues it, and which process is at
 * it. Old replicas neither read nor write it; what they write during a pass is found by the check at its end.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("row_pass")
    .addColumn("kind", "text", (c) => c.primaryKey())
    // What the rows are brought to; a pass with another target begins from the start.
    .addColumn("target", "text")
    // Table, and the primary key of its last row that is done.
    .addColumn("position", "jsonb")
    .addColumn("owner", "text")
    .addColumn("lease_until", "timestamptz")
    .execute();
}
