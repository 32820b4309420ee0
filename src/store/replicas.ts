import { sql } from "kysely";
import type { Database } from "./database.ts";

/** A running process, as it last reported itself. */
export interface Replica {
  /** Unique per process: host and process id. */
  readonly name: string;
  readonly version: string;
  readonly startedAt: Date;
  readonly seenAt: Date;
}

/** The processes that serve, for operators: nothing depends on it. */
export interface Replicas {
  /** Reports a process as alive. */
  report(replica: Pick<Replica, "name" | "version" | "startedAt">): Promise<void>;
  /** Those seen within the last day, the newest report first. */
  list(): Promise<Replica[]>;
  /** A process that stops. */
  remove(name: string): Promise<void>;
}

const table = "replica";
const now = sql<Date>`now()`;
/** A page shows at most this many. */
const maxListed = 500;

export function replicas(database: Database): Replicas {
  return {
    async report({ name, version, startedAt }) {
      await database.writeAtOnce("replica.report", (db) =>
        db
          .insertInto(table)
          .values({ name, version, started_at: startedAt, seen_at: now })
          .onConflict((conflict) =>
            conflict.column("name").doUpdateSet({ version, started_at: startedAt, seen_at: now }),
          )
          .execute(),
      );
    },
    async list() {
      const rows = await database.read("replica.list", (db) =>
        db
          .selectFrom(table)
          .selectAll()
          .where("seen_at", ">", sql<Date>`now() - interval '1 day'`)
          .orderBy("seen_at", "desc")
          .limit(maxListed)
          .execute(),
      );
      return rows.map((row) => ({
        name: row.name,
        version: row.version,
        startedAt: row.started_at,
        seenAt: row.seen_at,
      }));
    },
    async remove(name) {
      await database.writeAtOnce("replica.remove", (db) =>
        db.deleteFrom(table).where("name", "=", name).execute(),
      );
    },
  };
}
