import { type Kysely, sql } from "kysely";

/** MCP sessions of aggregated routes, and messages between replicas. Old replicas serve no aggregated routes and write nothing here. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("aggregate_session")
    // SHA-256 of the session id.
    .addColumn("handle_name", "text", (c) => c.primaryKey())
    .addColumn("user_id", "text", (c) => c.notNull())
    .addColumn("grant_id", "text", (c) => c.notNull())
    .addColumn("route_id", "text", (c) => c.notNull())
    .addColumn("version", "integer", (c) => c.notNull())
    .addColumn("sealed", "text", (c) => c.notNull())
    .addColumn("key_id", "text", (c) => c.notNull())
    .addColumn("expires_at", "timestamptz", (c) => c.notNull())
    .addColumn("mac", "text")
    .execute();
  // A grant's sessions, the ones used last first.
  await db.schema
    .createIndex("aggregate_session_grant_id")
    .on("aggregate_session")
    .columns(["grant_id", "expires_at"])
    .execute();
  await db.schema
    .createIndex("aggregate_session_expires_at")
    .on("aggregate_session")
    .column("expires_at")
    .execute();

  await db.schema
    .createTable("replica_message")
    .addColumn("to_replica", "text", (c) => c.notNull())
    .addColumn("id", "text", (c) => c.notNull())
    // Order of delivery.
    .addColumn("position", "bigint", (c) => c.generatedAlwaysAsIdentity().notNull())
    .addColumn("sealed", "text", (c) => c.notNull())
    .addColumn("key_id", "text", (c) => c.notNull())
    .addColumn("expires_at", "timestamptz", (c) => c.notNull())
    .addPrimaryKeyConstraint("replica_message_pkey", ["to_replica", "id"])
    .execute();
  await db.schema
    .createIndex("replica_message_expires_at")
    .on("replica_message")
    .column("expires_at")
    .execute();
  // Rows live for seconds: without this, the table would keep the pages of its busiest minute until the next regular vacuum.
  await sql`alter table replica_message set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)`.execute(
    db,
  );
}
