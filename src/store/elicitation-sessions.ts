import { sql } from "kysely";
import type { Database } from "./database.ts";
import { hashedHandle } from "./hashed-handle.ts";
import type { RowMacs } from "./row-macs.ts";

/** An MCP session, as its client names it in calls of one user on one route. */
export interface McpSession {
  readonly userId: string;
  readonly routeId: string;
  /** `Mcp-Session-Id` */
  readonly sessionId: string;
}

/** The MCP sessions whose client can show the user a URL (MCP 2025-11-25, URL mode elicitation). */
export interface ElicitationSessions {
  /** Remembered for 30 days; of one user, at most the newest 100. @throws StoreUnavailable */
  record(session: McpSession): Promise<void>;
  /** @throws StoreUnavailable */
  has(session: McpSession): Promise<boolean>;
}

const table = "elicitation_session";
const lifeMs = 30 * 86_400_000;
const maxPerUser = 100;

/** Stores hashes only: neither session ids nor users can be read from a row. */
export function elicitationSessions(database: Database, macs: RowMacs): ElicitationSessions {
  const nameOf = ({ userId, routeId, sessionId }: McpSession) =>
    hashedHandle(JSON.stringify([userId, routeId, sessionId]));

  return {
    async record(session) {
      await macs.ready();
      const values = {
        session_name: nameOf(session),
        user_name: hashedHandle(session.userId),
        expires_at: database.clock.toDatabase(new Date(Date.now() + lifeMs)),
      };
      const row = { ...values, mac: macs.sign(table, values) };
      await database.write("elicitation_session.record", async (tx) => {
        await tx
          .insertInto(table)
          .values(row)
          .onConflict((conflict) => conflict.column("session_name").doUpdateSet(row))
          .execute();
        await tx
          .deleteFrom(table)
          .where("session_name", "in", (query) =>
            query
              .selectFrom(table)
              .select("session_name")
              .where("user_name", "=", row.user_name)
              .orderBy("expires_at", "desc")
              .offset(maxPerUser),
          )
          .execute();
      });
    },
    async has(session) {
      const found = await database.read("elicitation_session.find", (db) =>
        db
          .selectFrom(table)
          .selectAll()
          .where("session_name", "=", nameOf(session))
          .where("expires_at", ">", sql<Date>`now()`)
          .executeTakeFirst(),
      );
      return (await macs.find(table, found)) !== undefined;
    },
  };
}
