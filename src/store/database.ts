import type { Kysely, Transaction } from "kysely";
import { withDeadline } from "../util/deadline.ts";
import { isUnavailability, StoreUnavailable } from "./errors.ts";
import type { Tables } from "./tables.ts";

/**
 * Short lifetimes use the database's clock, so that a replica with a wrong clock neither steals a lease nor treats a new code as
 * expired. Offsets below two seconds count as measuring error, which keeps dates exact in the usual case.
 */
export interface DatabaseClock {
  toDatabase(date: Date): Date;
  fromDatabase(date: Date): Date;
  /** Updates the offset from a database time that lies between two local times (ms since the epoch). */
  measure(databaseTime: Date, sentAt: number, receivedAt: number): void;
}

const negligibleMs = 2_000;

/** Creates a clock with no offset until `measure` is called. */
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

/** OID of `timestamptz`. */
export const timestamptz = 1184;

const firstTime = new Date("0001-01-01T00:00:00Z");
const lastTime = new Date("9999-12-31T23:59:59.999Z");

/**
 * A time of the database as a valid date. `infinity`, and years that JavaScript does not have, become the first or the last year with
 * four digits: the gateway writes none of them, and one that somebody else has written must not fail what reads many rows.
 * @param parsed by the driver
 */
export function boundedTime(text: string, parsed: unknown): Date {
  if (parsed instanceof Date && parsed >= firstTime && parsed <= lastTime) return parsed;
  return /^-|BC$/.test(text) ? firstTime : lastTime;
}

/** Database access for the table modules, Postgres or embedded. Operations throw `StoreUnavailable` if the database does not answer. */
export interface Database {
  readonly clock: DatabaseClock;
  /** One or more reads. Retried once if the connection was dead. `operation` is the name in metrics and errors. */
  read<T>(operation: string, work: (db: Kysely<Tables>) => Promise<T>): Promise<T>;
  /** One transaction. Never retried: without a response, it is unknown whether a COMMIT succeeded. */
  write<T>(operation: string, work: (tx: Transaction<Tables>) => Promise<T>): Promise<T>;
  /** A write with a single statement, which is its own transaction: one round trip instead of three. */
  writeAtOnce<T>(operation: string, work: (db: Kysely<Tables>) => Promise<T>): Promise<T>;
  /** Reports an audit event that a committed `writeAtOnce` has written. */
  readonly onAudited: (event: object) => void;
  close(): Promise<void>;
}

/** Runs a database call in a span, if the caller is traced (implemented by telemetry). */
export type InSpan = <T>(
  name: string,
  attributes: Readonly<Record<string, string>>,
  work: () => Promise<T>,
) => Promise<T>;

/** The metrics that the store sets; telemetry's metrics satisfy it. */
export interface StoreMetrics {
  readonly storeDuration: { startTimer(labels: { operation: string }): () => void };
  readonly storeRowsRejected: { inc(labels: { table: string }): void };
  readonly storeListenerUp: { set(value: number): void };
  readonly storeIndexesPending: { set(value: number): void };
}

const untraced: InSpan = (_name, _attributes, work) => work();
const system = { "db.system.name": "postgresql" };

/** The audit events of each transaction under way. */
const uncommitted = new WeakMap<Transaction<Tables>, object[]>();

/** Has an audit event of a transaction reported once it is committed. */
export function auditedIn(tx: Transaction<Tables>, event: object): void {
  uncommitted.get(tx)?.push(event);
}

/** Maximum number of concurrent reads while the database is slow; further reads fail at once. */
const maxSlowReads = 50;

/**
 * Applies timeouts, metrics and error types to every operation on `db`.
 * @param options.timeoutMs an operation that takes longer fails with `StoreUnavailable`.
 * @param options.beforeWrite rejects if nothing can be written now
 * @param options.onAudited called with every audit event, once it is committed
 */
export function createDatabase(
  db: Kysely<Tables>,
  options: {
    timeoutMs: number;
    metrics?: Pick<StoreMetrics, "storeDuration">;
    inSpan?: InSpan;
    beforeWrite?: () => Promise<void>;
    onAudited?: (event: object) => void;
    close: () => Promise<void>;
  },
): Database {
  const { inSpan = untraced, beforeWrite, onAudited = () => undefined } = options;
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
      // Failing some reads at once lets others finish in time; if all were queued, all would time out, and writes with them.
      if (slow && reading >= maxSlowReads)
        throw new StoreUnavailable(operation, new Error("too many concurrent reads"));
      reading++;
      try {
        return await attempt(operation, () => work(db));
      } catch (error) {
        // A dead pooled connection fails at once and is retried; an unreachable or slow database is not asked again.
        if (error instanceof StoreUnavailable && performance.now() - startedAt < options.timeoutMs / 10)
          return await attempt(operation, () => work(db));
        throw error;
      } finally {
        reading--;
        slow = performance.now() - startedAt > options.timeoutMs / 3;
      }
    },
    async write(operation, work) {
      const events: object[] = [];
      const written = await attempt(operation, () =>
        whenWritable(() =>
          db.transaction().execute((tx) => {
            uncommitted.set(tx, events);
            return work(tx);
          }),
        ),
      );
      for (const event of events) onAudited(event);
      return written;
    },
    writeAtOnce: (operation, work) => attempt(operation, () => whenWritable(() => work(db))),
    onAudited,
    close: options.close,
  };
}

/** PostgreSQL's `deadlock_detected`: another transaction locked the same rows or tables in a different order. */
const deadlock = "40P01";
const maxAttempts = 5;

/** Repeats a transaction that Postgres has rolled back because of a deadlock. */
export async function retriedOnDeadlock<T>(transaction: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await transaction();
    } catch (error) {
      const { cause } = error instanceof StoreUnavailable ? error : { cause: undefined };
      const deadlocked = cause instanceof Error && "code" in cause && cause.code === deadlock;
      if (!deadlocked || attempt === maxAttempts) throw error;
    }
  }
}
