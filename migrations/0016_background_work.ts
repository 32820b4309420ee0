import { type Kysely, sql } from "kysely";

/**
 * What bounds background work by what has changed: connections that are not refreshed ahead (`dormant_at`), refresh tokens that a refresh
 * does not extend (`refresh_final_at`), upstreams whose route was removed, and which replica does what. Old replicas leave the columns
 * alone: an index counts a row that they have refreshed since as not dormant. They still mark connections in `orphaned_at`.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable("upstream_token")
    .addColumn("dormant_at", "timestamptz")
    .addColumn("refresh_final_at", "timestamptz")
    .execute();
  await sql`
    create table orphaned_upstream (
      route_id text collate "C" not null,
      upstream text collate "C" not null,
      orphaned_at timestamptz not null default now(),
      ending boolean not null default false,
      constraint orphaned_upstream_pkey primary key (route_id, upstream)
    )`.execute(db);
  await sql`create index orphaned_upstream_ending on orphaned_upstream (ending, orphaned_at)`.execute(db);
  await db.schema
    .createTable("background_work")
    .addColumn("name", "text", (c) => c.primaryKey())
    .addColumn("owner", "text")
    .addColumn("lease_until", "timestamptz")
    .addColumn("started_at", "timestamptz", (c) => c.notNull())
    .execute();
}

/** Byte order: a range of upstreams can be skipped, whatever the database's collation. */
const upstreams = `on upstream_token (route_id collate "C", upstream collate "C", user_id)`;

export const indexes = {
  upstream_token_due: `on upstream_token (expires_at)
    where refreshable and (dormant_at is null or dormant_at < updated_at)`,
  // When a refresh token has a fifth of its lifetime left, or a day.
  upstream_token_refresh_due: `on upstream_token
    (((refresh_expires_at at time zone 'UTC') - least(interval '1 day', 0.2 * (refresh_expires_at - updated_at))))
    where refreshable and (refresh_final_at is null or refresh_expires_at > refresh_final_at)`,
  upstream_token_upstream: upstreams,
  upstream_token_orphaned: `${upstreams} where orphaned_at is not null`,
};
