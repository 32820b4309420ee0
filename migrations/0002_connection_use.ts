import type { Kysely } from "kysely";

/** When a connection was last used, and since when no route has it any more. Old replicas leave both alone. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable("upstream_token")
    .addColumn("last_used_at", "timestamptz")
    .addColumn("orphaned_at", "timestamptz")
    .execute();
}
