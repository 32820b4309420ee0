import type { Kysely } from "kysely";

/**
 * Expired rows of every kind, and the pages of listings, are found through an index. Old replicas neither read nor write the column, and
 * do not need the indexes.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  // When a record was last found to be in use (src/store/expired-rows.ts).
  await db.schema.alterTable("sign_in_session").addColumn("kept_at", "timestamptz").execute();
}

export const indexes = {
  upstream_token_ended: "on upstream_token (expires_at) where not refreshable",
  upstream_token_refresh_ended: "on upstream_token (refresh_expires_at) where refresh_expires_at is not null",
  upstream_demand_demanded_at: "on upstream_demand (demanded_at)",
  pending_authorization_user_id:
    "on pending_authorization (user_id, kind, expires_at) where user_id is not null",
  client_registration_secret_expires_at:
    "on client_registration (secret_expires_at) where secret_expires_at is not null",
  client_registration_lease_until: "on client_registration (lease_until) where client_id is null",
  authorization_server_record_grant_of_user:
    "on authorization_server_record (user_id, id_name) where model = 'Grant'",
  authorization_server_record_grant_of_client:
    "on authorization_server_record (client_id, user_id, id_name) where model = 'Grant'",
  authorization_server_record_of_grant:
    "on authorization_server_record (grant_id, created_at) where grant_id is not null",
  delegation_expires_at: "on delegation (expires_at)",
  sign_in_session_kept_at: "on sign_in_session (greatest(checked_at, kept_at))",
};
