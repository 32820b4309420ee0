import { type Kysely, sql } from "kysely";

/** The first tables. Secrets are only ever in `sealed` (a compact JWE); handles are kept as SHA-256 (`*_name`). */
export async function up(db: Kysely<unknown>): Promise<void> {
  const now = sql`now()`;
  await sql`create sequence upstream_token_version as bigint`.execute(db);
  await db.schema
    .createTable("upstream_token")
    .addColumn("user_id", "text", (c) => c.notNull())
    .addColumn("route_id", "text", (c) => c.notNull())
    .addColumn("upstream", "text", (c) => c.notNull())
    .addColumn("version", "bigint", (c) => c.notNull().defaultTo(sql`nextval('upstream_token_version')`))
    .addColumn("sealed", "text", (c) => c.notNull())
    .addColumn("key_id", "text", (c) => c.notNull())
    .addColumn("expires_at", "timestamptz")
    .addColumn("refresh_expires_at", "timestamptz")
    .addColumn("refreshable", "boolean", (c) => c.notNull())
    .addColumn("lease_owner", "text")
    .addColumn("lease_until", "timestamptz")
    .addColumn("connected_at", "timestamptz", (c) => c.notNull().defaultTo(now))
    .addColumn("updated_at", "timestamptz", (c) => c.notNull().defaultTo(now))
    .addPrimaryKeyConstraint("upstream_token_pkey", ["user_id", "route_id", "upstream"])
    .execute();
  await db.schema
    .createIndex("upstream_token_expires_at")
    .on("upstream_token")
    .column("expires_at")
    .execute();

  await db.schema
    .createTable("upstream_demand")
    .addColumn("user_id", "text", (c) => c.notNull())
    .addColumn("route_id", "text", (c) => c.notNull())
    .addColumn("upstream", "text", (c) => c.notNull())
    .addColumn("scopes", "jsonb", (c) => c.notNull())
    .addColumn("resource_metadata", "text")
    .addColumn("demanded_at", "timestamptz", (c) => c.notNull())
    .addPrimaryKeyConstraint("upstream_demand_pkey", ["user_id", "route_id", "upstream"])
    .execute();

  await db.schema
    .createTable("pending_authorization")
    .addColumn("kind", "text", (c) => c.notNull())
    .addColumn("state_name", "text", (c) => c.notNull())
    .addColumn("user_id", "text")
    .addColumn("sealed", "text", (c) => c.notNull())
    .addColumn("key_id", "text", (c) => c.notNull())
    .addColumn("expires_at", "timestamptz", (c) => c.notNull())
    .addPrimaryKeyConstraint("pending_authorization_pkey", ["kind", "state_name"])
    .execute();
  await db.schema
    .createIndex("pending_authorization_expires_at")
    .on("pending_authorization")
    .column("expires_at")
    .execute();

  await db.schema
    .createTable("client_registration")
    .addColumn("issuer", "text", (c) => c.notNull())
    .addColumn("redirect_uri", "text", (c) => c.notNull())
    .addColumn("client_id", "text")
    .addColumn("secret_expires_at", "timestamptz")
    .addColumn("sealed", "text")
    .addColumn("key_id", "text")
    .addColumn("lease_owner", "text")
    .addColumn("lease_until", "timestamptz")
    .addColumn("created_at", "timestamptz", (c) => c.notNull().defaultTo(now))
    .addPrimaryKeyConstraint("client_registration_pkey", ["issuer", "redirect_uri"])
    .execute();

  await db.schema
    .createTable("authorization_server_record")
    .addColumn("model", "text", (c) => c.notNull())
    .addColumn("id_name", "text", (c) => c.notNull())
    .addColumn("grant_id", "text")
    .addColumn("uid_name", "text")
    .addColumn("user_code_name", "text")
    .addColumn("user_id", "text")
    .addColumn("client_id", "text")
    .addColumn("sealed", "text", (c) => c.notNull())
    .addColumn("key_id", "text", (c) => c.notNull())
    .addColumn("created_at", "timestamptz", (c) => c.notNull().defaultTo(now))
    .addColumn("expires_at", "timestamptz")
    .addColumn("consumed_at", "timestamptz")
    .addPrimaryKeyConstraint("authorization_server_record_pkey", ["model", "id_name"])
    .execute();
  for (const column of ["grant_id", "uid_name", "user_code_name", "user_id", "expires_at"])
    await db.schema
      .createIndex(`authorization_server_record_${column}`)
      .on("authorization_server_record")
      .column(column)
      .execute();

  await db.schema
    .createTable("browser_session")
    .addColumn("id_name", "text", (c) => c.primaryKey())
    .addColumn("host", "text", (c) => c.notNull())
    .addColumn("user_id", "text", (c) => c.notNull())
    .addColumn("parent_name", "text")
    .addColumn("created_at", "timestamptz", (c) => c.notNull())
    .addColumn("expires_at", "timestamptz", (c) => c.notNull())
    .execute();
  for (const column of ["user_id", "parent_name", "expires_at"])
    await db.schema.createIndex(`browser_session_${column}`).on("browser_session").column(column).execute();

  await db.schema
    .createTable("sign_in_session")
    .addColumn("user_id", "text", (c) => c.primaryKey())
    .addColumn("provider_id", "text", (c) => c.notNull())
    .addColumn("subject", "text", (c) => c.notNull())
    .addColumn("sid_name", "text")
    .addColumn("sealed", "text", (c) => c.notNull())
    .addColumn("key_id", "text", (c) => c.notNull())
    .addColumn("checked_at", "timestamptz", (c) => c.notNull())
    .execute();
  await db.schema
    .createIndex("sign_in_session_sid_name")
    .on("sign_in_session")
    .columns(["provider_id", "sid_name"])
    .execute();

  await db.schema
    .createTable("signing_key")
    .addColumn("kid", "text", (c) => c.primaryKey())
    .addColumn("purpose", "text", (c) => c.notNull())
    .addColumn("sealed", "text", (c) => c.notNull())
    .addColumn("key_id", "text", (c) => c.notNull())
    .addColumn("created_at", "timestamptz", (c) => c.notNull())
    .addColumn("active_at", "timestamptz", (c) => c.notNull())
    .addColumn("expires_at", "timestamptz")
    .execute();

  await db.schema
    .createTable("audit_event")
    .addColumn("id", "bigint", (c) => c.primaryKey().generatedAlwaysAsIdentity())
    .addColumn("at", "timestamptz", (c) => c.notNull().defaultTo(now))
    .addColumn("action", "text", (c) => c.notNull())
    .addColumn("user_id", "text")
    .addColumn("client_id", "text")
    .addColumn("grant_id", "text")
    .addColumn("route_id", "text")
    .addColumn("upstream", "text")
    .addColumn("issuer", "text")
    .addColumn("reason", "text")
    .addColumn("request_id", "text")
    .addColumn("detail", "jsonb")
    .execute();
  await db.schema.createIndex("audit_event_at").on("audit_event").column("at").execute();
}
