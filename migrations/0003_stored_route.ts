import { type Kysely, sql } from "kysely";

/** Routes made over the admin API. Old replicas do not know them and go on without. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("stored_route")
    .addColumn("id", "text", (c) => c.primaryKey())
    // Host and path prefix: two replicas cannot give one place away twice.
    .addColumn("place", "text", (c) => c.notNull().unique())
    .addColumn("version", "bigint", (c) => c.notNull().defaultTo(1))
    .addColumn("sealed", "text", (c) => c.notNull())
    .addColumn("key_id", "text", (c) => c.notNull())
    .addColumn("created_at", "timestamptz", (c) => c.notNull().defaultTo(sql`now()`))
    .addColumn("updated_at", "timestamptz", (c) => c.notNull().defaultTo(sql`now()`))
    .execute();
  // An export goes on where the last one ended, whatever retention has removed meanwhile.
  await db.schema.createIndex("audit_event_action").on("audit_event").columns(["action", "id"]).execute();
}
