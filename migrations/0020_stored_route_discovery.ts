import type { Kysely } from "kysely";

/** What discovery found for a stored route, for administrators. Old replicas leave it as it is. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable("stored_route").addColumn("discovery", "jsonb").execute();
}
