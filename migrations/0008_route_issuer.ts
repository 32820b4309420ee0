import { type Kysely, sql } from "kysely";

/**
 * At which authorization servers a route's people have been connected, in that order. What the audit trail has from before is
 * accepted for good. Old replicas neither ask nor write here.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("route_issuer")
    .addColumn("id", "bigint", (c) => c.generatedAlwaysAsIdentity().notNull().unique())
    .addColumn("route_id", "text", (c) => c.notNull())
    .addColumn("upstream", "text", (c) => c.notNull())
    .addColumn("issuer", "text", (c) => c.notNull())
    .addColumn("accepted", "boolean", (c) => c.notNull().defaultTo(false))
    .addColumn("created_at", "timestamptz", (c) => c.notNull().defaultTo(sql`now()`))
    .addPrimaryKeyConstraint("route_issuer_pkey", ["route_id", "upstream", "issuer"])
    .execute();
  await db.schema.createIndex("route_issuer_issuer").on("route_issuer").column("issuer").execute();
  await sql`
    insert into route_issuer (route_id, upstream, issuer, accepted, created_at)
    select route_id, upstream, rtrim(issuer, '/'), true, min(at)
    from audit_event
    where action in ('upstream_token.obtained', 'upstream_token.refreshed')
      and route_id is not null and upstream is not null and issuer is not null
    group by 1, 2, 3
    order by min(at)
  `.execute(db);
}
