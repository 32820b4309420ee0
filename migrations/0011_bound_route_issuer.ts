import type { Kysely } from "kysely";

/**
 * A MAC per row, as the tables of 0010 have it. Old replicas write rows without one, which are accepted until the rows are bound
 * (src/store/row-macs.ts).
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable("route_issuer").addColumn("mac", "text").execute();
}
