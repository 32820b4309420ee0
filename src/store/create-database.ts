import type { Kysely } from "kysely";
import { createDatabaseClock } from "./create-database-clock.ts";
import type { Database } from "./database.ts";
import type { InSpan } from "./in-span.ts";
import { isUnavailability } from "./is-unavailability.ts";
import type { StoreMetrics } from "./store-metrics.ts";
import { StoreUnavailable } from "./store-unavailable.ts";
import type { Tables } from "./tables.ts";

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
    const deadline = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => deadline.reject(new StoreUnavailable(operation, new Error("timed out"))),
      options.timeoutMs,
    );
    try {
      return await Promise.race([
        inSpan(`postgres ${operation}`, { ...system, "db.operation.name": operation }, work),
        deadline.promise,
      ]);
    } catch (error) {
      throw isUnavailability(error) ? new StoreUnavailable(operation, error) : error;
    } finally {
      clearTimeout(timer);
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
