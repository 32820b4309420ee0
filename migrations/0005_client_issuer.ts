import { type Kysely, sql } from "kysely";

/** To which issuer the client of a routes file belongs. Old replicas do not ask, and write nothing here. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("client_issuer")
    .addColumn("route_id", "text", (c) => c.notNull())
    .addColumn("upstream", "text", (c) => c.notNull())
    .addColumn("client_id", "text", (c) => c.notNull())
    .addColumn("issuer", "text", (c) => c.notNull())
    .addColumn("created_at", "timestamptz", (c) => c.notNull().defaultTo(sql`now()`))
    .addPrimaryKeyConstraint("client_issuer_pkey", ["route_id", "upstream", "client_id"])
    .execute();
}
