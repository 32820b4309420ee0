import { type Kysely, sql } from "kysely";

/**
 * Which members of an aggregated route a grant may use. Old replicas serve no aggregated routes, and leave the rows of a grant that
 * they revoke to expire with it.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("granted_member")
    .addColumn("grant_id", "text", (c) => c.notNull())
    .addColumn("route_id", "text", (c) => c.notNull())
    // The upstream that the person has seen: a later route of the same id with another one is another server.
    .addColumn("upstream", "text", (c) => c.notNull())
    // When the grant expires; absent if it never does.
    .addColumn("expires_at", "timestamptz")
    .addColumn("created_at", "timestamptz", (c) => c.notNull().defaultTo(sql`now()`))
    .addColumn("mac", "text")
    .addPrimaryKeyConstraint("granted_member_pkey", ["grant_id", "route_id"])
    .execute();
  await db.schema
    .createIndex("granted_member_expires_at")
    .on("granted_member")
    .column("expires_at")
    .execute();
}
