import type { Kysely } from "kysely";

/**
 * Codes and sessions of the admin page, and the replicas that it shows. Old replicas do not serve the page, and appear in `replica`
 * after their upgrade.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("admin_code")
    .addColumn("code_name", "text", (c) => c.primaryKey())
    .addColumn("session_name", "text", (c) => c.notNull())
    .addColumn("user_id", "text", (c) => c.notNull())
    .addColumn("expires_at", "timestamptz", (c) => c.notNull())
    .addColumn("mac", "text")
    .execute();
  await db.schema.createIndex("admin_code_session").on("admin_code").column("session_name").execute();
  await db.schema.createIndex("admin_code_expires_at").on("admin_code").column("expires_at").execute();
  await db.schema
    .createTable("admin_session")
    .addColumn("id_name", "text", (c) => c.primaryKey())
    .addColumn("session_name", "text", (c) => c.notNull())
    .addColumn("user_id", "text", (c) => c.notNull())
    .addColumn("created_at", "timestamptz", (c) => c.notNull())
    .addColumn("expires_at", "timestamptz", (c) => c.notNull())
    .addColumn("mac", "text")
    .execute();
  await db.schema.createIndex("admin_session_expires_at").on("admin_session").column("expires_at").execute();
  await db.schema
    .createTable("replica")
    .addColumn("name", "text", (c) => c.primaryKey())
    .addColumn("version", "text", (c) => c.notNull())
    .addColumn("started_at", "timestamptz", (c) => c.notNull())
    .addColumn("seen_at", "timestamptz", (c) => c.notNull())
    .execute();
  await db.schema.createIndex("replica_seen_at").on("replica").column("seen_at").execute();
}
