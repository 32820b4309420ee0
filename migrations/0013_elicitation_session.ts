import type { Kysely } from "kysely";

/**
 * MCP sessions whose client can show the user a URL (MCP 2025-11-25, URL mode elicitation). Old replicas neither read nor write it, and
 * answer such calls with a challenge.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("elicitation_session")
    .addColumn("session_name", "text", (c) => c.primaryKey())
    .addColumn("user_name", "text", (c) => c.notNull())
    .addColumn("expires_at", "timestamptz", (c) => c.notNull())
    .addColumn("mac", "text")
    .execute();
  await db.schema
    .createIndex("elicitation_session_user")
    .on("elicitation_session")
    .columns(["user_name", "expires_at"])
    .execute();
  await db.schema
    .createIndex("elicitation_session_expires_at")
    .on("elicitation_session")
    .column("expires_at")
    .execute();
}
