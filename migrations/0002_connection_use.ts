import type { Kysely } from "kysely";

/** When a connection was last used (F5.5), and since when no route has it any more (F8.10). Old replicas leave both alone. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable("upstream_token")
    .addColumn("last_used_at", "timestamptz")
    .addColumn("orphaned_at", "timestamptz")
    .execute();
}
