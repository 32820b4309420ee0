import { type Kysely, sql } from "kysely";

const bound = [
  "upstream_token",
  "upstream_demand",
  "pending_authorization",
  "client_registration",
  "client_issuer",
  "authorization_server_record",
  "delegation",
  "browser_session",
  "sign_in_session",
  "signing_key",
  "stored_route",
] as const;

/**
 * A MAC per row over the columns that decide something, so that who can write to the database cannot forge them; and one-time
 * values that must not be taken twice. Old replicas write rows without a MAC, which are accepted until the rows are bound
 * (src/store/row-macs.ts).
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const table of bound) await db.schema.alterTable(table).addColumn("mac", "text").execute();

  await db.schema
    .createTable("used_value")
    .addColumn("kind", "text", (c) => c.notNull())
    // SHA-256 of the value.
    .addColumn("name", "text", (c) => c.notNull())
    .addColumn("expires_at", "timestamptz", (c) => c.notNull())
    .addPrimaryKeyConstraint("used_value_pkey", ["kind", "name"])
    .execute();
  await db.schema.createIndex("used_value_expires_at").on("used_value").column("expires_at").execute();

  // Strangers name clients at every endpoint: whether anybody ever allowed one must not take a scan.
  await sql`
    create index authorization_server_record_client_id on authorization_server_record (client_id)
    where model = 'Grant'`.execute(db);
}
