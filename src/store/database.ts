import type { Kysely, Transaction } from "kysely";
import type { DatabaseClock } from "./create-database-clock.ts";
import type { Tables } from "./tables.ts";

/** What the tables' files need of a database, Postgres or embedded. Every failure to answer is a `StoreUnavailable`. */
export interface Database {
  readonly clock: DatabaseClock;
  /** One or more reads. Tried once more when the connection turns out to be dead. `operation` names it in metrics and errors. */
  read<T>(operation: string, work: (db: Kysely<Tables>) => Promise<T>): Promise<T>;
  /** One transaction. Never tried twice: a lost answer to COMMIT does not say whether it happened. */
  write<T>(operation: string, work: (tx: Transaction<Tables>) => Promise<T>): Promise<T>;
  /** A write of a single statement, which is a transaction by itself: one way to the server and back instead of three. */
  writeAtOnce<T>(operation: string, work: (db: Kysely<Tables>) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}
