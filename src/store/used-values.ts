import { sql } from "kysely";
import type { Database } from "./database.ts";
import { hashedHandle } from "./hashed-handle.ts";

export interface UsedValues {
  isTaken(kind: "logout_token", value: string): Promise<boolean>;
  /**
   * Whether the value was new, which it is once across replicas: one conditional insert. Remembered until `expiresAt`.
   * @param kind what keeps values of different purposes apart
   */
  take(kind: "logout_token", value: string, expiresAt: Date): Promise<boolean>;
}

const table = "used_value";

/** One-time values (`jti`), by their hash: whoever inserts one first, has used it. */
export function usedValues(database: Database): UsedValues {
  const { clock } = database;
  return {
    async isTaken(kind, value) {
      const row = await database.read("used_value.is_taken", (db) =>
        db
          .selectFrom(table)
          .select("kind")
          .where("kind", "=", kind)
          .where("name", "=", hashedHandle(value))
          .where("expires_at", ">", sql<Date>`now()`)
          .executeTakeFirst(),
      );
      return row !== undefined;
    },
    async take(kind, value, expiresAt) {
      const expires_at = clock.toDatabase(expiresAt);
      const row = await database.writeAtOnce("used_value.take", (db) =>
        db
          .insertInto(table)
          .values({ kind, name: hashedHandle(value), expires_at })
          // What has expired, but was not removed yet, is as good as absent.
          .onConflict((conflict) =>
            conflict
              .columns(["kind", "name"])
              .doUpdateSet({ expires_at })
              .where("used_value.expires_at", "<=", sql<Date>`now()`),
          )
          .returning("kind")
          .executeTakeFirst(),
      );
      return row !== undefined;
    },
  };
}
