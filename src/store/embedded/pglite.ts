import { statfs } from "node:fs/promises";
import { PGlite, type Transaction } from "@electric-sql/pglite";

/** A segment of Postgres' log, and something to go with it. */
const requiredMebibytes = 20;

/**
 * Makes sure that the embedded database finds room for what it is about to write: PGlite that cannot extend its log at a commit
 * never comes back from it, and takes the whole process with it.
 * @throws Error `ENOSPC`
 */
export async function requireSpace(dir: string): Promise<void> {
  const { bavail, bsize } = await statfs(dir);
  if (bavail * bsize >= requiredMebibytes * 1024 * 1024) return;
  throw Object.assign(
    new Error(`less than ${requiredMebibytes} MiB are free on the disk that holds ${dir}`),
    {
      code: "ENOSPC",
    },
  );
}

type Tx = Pick<Transaction, "query" | "rollback">;

/** What the rest of the store needs of PGlite; kysely's dialect takes it as one. */
export interface ReopeningPglite {
  readonly ready: true;
  readonly waitReady: Promise<void>;
  readonly closed: boolean;
  query: PGlite["query"];
  transaction<T>(callback: (tx: Tx) => Promise<T>): Promise<T>;
  /** Also after it has been opened again, of which it tells `onGap`: what was being committed then is not known. */
  listen(channel: string, onNotification: (payload: string) => void, onGap: () => void): Promise<void>;
  close(): Promise<void>;
}

/** Between attempts to open it again, ms. */
const pauseMs = 1_000;

/**
 * PGlite that survives Postgres' panic, mostly over a full disk. A real one restarts; PGlite spins for ever in whatever it is
 * asked next. So it is asked nothing more: it is dropped, and as soon as there is room a new one recovers the files in `dataDir`.
 * To be used by one at a time, as kysely does.
 */
export async function openPglite(dataDir: string): Promise<ReopeningPglite> {
  let current: PGlite | undefined = await PGlite.create({ dataDir });
  let reopening: Promise<PGlite> | undefined;
  let tryAgainAt = 0;
  let closed = false;
  const listeners: { channel: string; onNotification: (payload: string) => void; onGap: () => void }[] = [];

  function instance(): PGlite | Promise<PGlite> {
    if (closed) throw unavailable("it is closed");
    if (current) return current;
    reopening ??= reopen().finally(() => {
      reopening = undefined;
    });
    return reopening;
  }

  async function reopen(): Promise<PGlite> {
    if (performance.now() < tryAgainAt) throw unavailable("it will be opened again in a moment");
    tryAgainAt = performance.now() + pauseMs;
    // Recovery writes, too.
    await requireSpace(dataDir);
    const opened = await PGlite.create({ dataDir }).catch((error: unknown) => {
      throw unavailable("it cannot be opened again", error);
    });
    for (const { channel, onNotification } of listeners) await opened.listen(channel, onNotification);
    current = opened;
    for (const { onGap } of listeners) onGap();
    return opened;
  }

  /** Passes an error of `of` on, and drops it if it was its last. */
  function failed(error: unknown, of: PGlite): never {
    if (of === current && isFatal(error)) {
      current = undefined;
      tryAgainAt = performance.now() + pauseMs;
    }
    throw error;
  }

  async function transaction<T>(callback: (tx: Tx) => Promise<T>): Promise<T> {
    const lost = Promise.withResolvers<never>();
    let begun = false;
    try {
      const of = await instance();
      const work = of.transaction(async (tx) => {
        begun = true;
        const query: Tx["query"] = (text, parameters, options) =>
          tx.query<never>(text, parameters, options).catch((error: unknown) => failed(error, of));
        const result = await callback({ query, rollback: () => tx.rollback() }).catch(
          async (error: unknown) => {
            if (of === current) throw error;
            // It must be told neither to commit nor to roll back.
            lost.reject(error);
            return new Promise<never>(() => {});
          },
        );
        return result;
      });
      return await Promise.race([work.catch((error: unknown) => failed(error, of)), lost.promise]);
    } catch (error) {
      // Whoever began waits to be told so, and learns the rest from their first statement.
      if (!begun)
        await callback({ query: () => Promise.reject(error), rollback: async () => {} }).catch(() => {});
      throw error;
    }
  }

  return {
    ready: true,
    waitReady: Promise.resolve(),
    get closed() {
      return closed;
    },
    async query<T>(...[text, parameters, options]: Parameters<PGlite["query"]>) {
      const of = await instance();
      return of.query<T>(text, parameters, options).catch((error: unknown) => failed(error, of));
    },
    transaction,
    async listen(channel, onNotification, onGap) {
      await (await instance()).listen(channel, onNotification);
      listeners.push({ channel, onNotification, onGap });
    },
    async close() {
      await reopening?.catch(() => {});
      closed = true;
      // The last checkpoint writes; without room the next process recovers instead.
      const room = await requireSpace(dataDir).then(
        () => true,
        () => false,
      );
      if (room) await current?.close();
    },
  };
}

/** Postgres' last words, or those of the WebAssembly it runs in. */
function isFatal(error: unknown): boolean {
  if (error instanceof WebAssembly.RuntimeError) return true;
  return (
    error instanceof Error &&
    "severity" in error &&
    (error.severity === "PANIC" || error.severity === "FATAL")
  );
}

/** SQLSTATE 57P03, cannot_connect_now: what a Postgres says that is starting. */
function unavailable(why: string, cause?: unknown): Error {
  return Object.assign(new Error(`the embedded database does not answer: ${why}`, { cause }), {
    code: "57P03",
  });
}
