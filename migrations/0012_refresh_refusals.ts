import type { Kysely } from "kysely";

/**
 * Refreshes that a server has refused without saying why: how often, since when, and of which version of the token. Old replicas leave
 * the columns alone; what they write has a version of its own, of which nothing has been refused.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable("upstream_token")
    .addColumn("refused_version", "bigint")
    .addColumn("refused_count", "integer")
    .addColumn("refused_since", "timestamptz")
    .execute();
}
