import { type Kysely, sql } from "kysely";

/**
 * Which service account may ask for whose connection, and since when it may use it. Old replicas do not know them and go
 * on refusing.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("delegation")
    .addColumn("grant_id", "text", (c) => c.notNull())
    .addColumn("route_id", "text", (c) => c.notNull())
    .addColumn("account", "text", (c) => c.notNull())
    .addColumn("owner_id", "text", (c) => c.notNull())
    // Absent until the owner consents: an upstream that the route moves to later is another connection.
    .addColumn("upstream", "text")
    .addColumn("delegated_at", "timestamptz")
    .addColumn("created_at", "timestamptz", (c) => c.notNull().defaultTo(sql`now()`))
    .addColumn("expires_at", "timestamptz", (c) => c.notNull())
    .addPrimaryKeyConstraint("delegation_pkey", ["grant_id", "route_id"])
    .execute();
  await db.schema.createIndex("delegation_owner_id").on("delegation").column("owner_id").execute();
}
