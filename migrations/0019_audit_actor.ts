import type { Kysely } from "kysely";

/** Who made an administrative change. Old replicas leave it empty. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable("audit_event").addColumn("actor", "text").execute();
}
