import { setTimeout as delay } from "node:timers/promises";

/** Stores what a server has given, and will not give again, when the database is away for a moment. */
export interface Persistence {
  /** Tries for ten minutes; no longer than ten seconds once closing. @throws what the last try threw */
  write<T>(write: () => Promise<T>): Promise<T>;
  /** Waits for what is under way, which is given up soon. */
  close(): Promise<void>;
}

/** How long a write is tried, and how long it is once the process is to end, ms. */
const persistMs = 10 * 60_000;
const closingMs = 10_000;

/** @param message logged for each try that failed */
export function createPersistence(
  logger: { warn(about: object, message: string): void },
  message: string,
): Persistence {
  const underWay = new Set<Promise<unknown>>();
  let closing = false;

  async function persist<T>(write: () => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    for (let attempt = 1; ; attempt++) {
      try {
        return await write();
      } catch (error) {
        if (performance.now() - startedAt > (closing ? closingMs : persistMs)) throw error;
        logger.warn({ attempt, err: error }, message);
        await delay(Math.min(100 * 2 ** attempt, 1000));
      }
    }
  }

  return {
    write(write) {
      const writing = persist(write);
      const settled = writing.then(
        () => {},
        () => {},
      );
      underWay.add(settled);
      void settled.then(() => underWay.delete(settled));
      return writing;
    },
    async close() {
      closing = true;
      await Promise.all(underWay);
    },
  };
}
