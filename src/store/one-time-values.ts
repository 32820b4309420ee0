import { sql } from "kysely";
import type { Database } from "./database.ts";
import { hashedHandle } from "./hashed-handle.ts";

export interface UsedValues {
  isTaken(kind: "logout_token", value: string): Promise<boolean>;
  /**
   * Whether the value is new, which is true once across replicas: one conditional insert. Remembered until `expiresAt`.
   * @param kind separates values of different purposes
   */
  take(kind: "logout_token", value: string, expiresAt: Date): Promise<boolean>;
}

const table = "used_value";

/** One-time values (`jti`), by their hash: the first insert uses the value. */
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
          // An expired row that was not removed yet counts as absent.
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
