import type { Kysely, Transaction } from "kysely";
import { withDeadline } from "../util/deadline.ts";
import { isUnavailability, StoreUnavailable } from "./errors.ts";
import type { Tables } from "./tables.ts";

/**
 * Short lifetimes are kept on the database's clock, so that a replica whose own clock is off neither steals a lease nor finds
 * a fresh code expired. Offsets below two seconds are taken for measuring error, which keeps dates exact in the usual case.
 */
export interface DatabaseClock {
  toDatabase(date: Date): Date;
  fromDatabase(date: Date): Date;
  /** Takes in what the database said of the time, between two local readings (ms since the epoch). */
  measure(databaseTime: Date, sentAt: number, receivedAt: number): void;
}

const negligibleMs = 2_000;

/** A clock that agrees with the database until `measure` says otherwise. */
export function createDatabaseClock(): DatabaseClock {
  let offsetMs = 0;
  return {
    toDatabase: (date) => (offsetMs === 0 ? date : new Date(date.getTime() + offsetMs)),
    fromDatabase: (date) => (offsetMs === 0 ? date : new Date(date.getTime() - offsetMs)),
    measure(databaseTime, sentAt, receivedAt) {
      const measured = Math.round(databaseTime.getTime() - (sentAt + receivedAt) / 2);
      offsetMs = Math.abs(measured) < negligibleMs + (receivedAt - sentAt) / 2 ? 0 : measured;
    },
  };
}

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

/** `telemetry/`'s, as far as the store needs it: a span around a call to the database, where the caller is traced. */
export type InSpan = <T>(
  name: string,
  attributes: Readonly<Record<string, string>>,
  work: () => Promise<T>,
) => Promise<T>;

/** The metrics this room sets; telemetry's own satisfy it. */
export interface StoreMetrics {
  readonly storeDuration: { startTimer(labels: { operation: string }): () => void };
  readonly storeRowsRejected: { inc(labels: { table: string }): void };
  readonly storeListenerUp: { set(value: number): void };
}

const untraced: InSpan = (_name, _attributes, work) => work();
const system = { "db.system.name": "postgresql" };

/** Reads under way at a time while the database is slow; what comes beyond is refused. */
const maxSlowReads = 50;

/**
 * Bounds, measures and types every operation on `db`.
 * @param options.timeoutMs an operation that takes longer is given up with `StoreUnavailable`.
 * @param options.beforeWrite rejects when nothing can be written now
 */
export function createDatabase(
  db: Kysely<Tables>,
  options: {
    timeoutMs: number;
    metrics?: Pick<StoreMetrics, "storeDuration">;
    inSpan?: InSpan;
    beforeWrite?: () => Promise<void>;
    close: () => Promise<void>;
  },
): Database {
  const { inSpan = untraced, beforeWrite } = options;
  async function attempt<T>(operation: string, work: () => Promise<T>): Promise<T> {
    const end = options.metrics?.storeDuration.startTimer({ operation });
    const traced = inSpan(`postgres ${operation}`, { ...system, "db.operation.name": operation }, work);
    try {
      return await withDeadline(traced, options.timeoutMs, () => {
        throw new StoreUnavailable(operation, new Error("timed out"));
      });
    } catch (error) {
      throw isUnavailability(error) ? new StoreUnavailable(operation, error) : error;
    } finally {
      end?.();
    }
  }
  const whenWritable = <T>(work: () => Promise<T>) => (beforeWrite ? beforeWrite().then(work) : work());
  let reading = 0;
  let slow = false;
  return {
    clock: createDatabaseClock(),
    async read(operation, work) {
      const startedAt = performance.now();
      // Refused at once, some callers get an answer in time; queued, all of them would wait in vain, and writes with them.
      if (slow && reading >= maxSlowReads)
        throw new StoreUnavailable(operation, new Error("too many reads under way"));
      reading++;
      try {
        return await attempt(operation, () => work(db));
      } catch (error) {
        // A pooled connection that died unnoticed fails at once; a database that is away, or slow, is not asked again.
        if (error instanceof StoreUnavailable && performance.now() - startedAt < options.timeoutMs / 10)
          return await attempt(operation, () => work(db));
        throw error;
      } finally {
        reading--;
        slow = performance.now() - startedAt > options.timeoutMs / 3;
      }
    },
    write: (operation, work) => attempt(operation, () => whenWritable(() => db.transaction().execute(work))),
    writeAtOnce: (operation, work) => attempt(operation, () => whenWritable(() => work(db))),
    close: options.close,
  };
}
