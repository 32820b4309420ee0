import { statfs } from "node:fs/promises";
import type { PGlite, Transaction } from "@electric-sql/pglite";
import { boundedTime, timestamptz } from "../database.ts";

/** A segment of Postgres' log, plus a margin. */
const requiredMebibytes = 20;

/**
 * Ensures that the embedded database has disk space for a write: if PGlite cannot extend its log at a commit, it never returns and
 * blocks the whole process.
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

/** The part of PGlite that the store uses; compatible with Kysely's dialect. */
export interface ReopeningPglite {
  readonly ready: true;
  readonly waitReady: Promise<void>;
  readonly closed: boolean;
  query: PGlite["query"];
  transaction<T>(callback: (tx: Tx) => Promise<T>): Promise<T>;
  /** Stays subscribed after a reopen, and then calls `onGap`: notifications of commits in the meantime are lost. */
  listen(channel: string, onNotification: (payload: string) => void, onGap: () => void): Promise<void>;
  close(): Promise<void>;
}

/** Postgres' default of 128 MB is all resident; files are cached by the operating system as well. */
const sharedBuffers = "16MB";
/** Pause between attempts to reopen, ms. */
const pauseMs = 1_000;

/**
 * PGlite that survives a Postgres panic, usually caused by a full disk. A Postgres server would restart; PGlite spins indefinitely
 * on the next call. So this drops the instance, and as soon as there is disk space, a new one recovers the files in `dataDir`.
 * Supports one caller at a time, as with Kysely.
 */
export async function openPglite(dataDir: string): Promise<ReopeningPglite> {
  // Loaded here: with Postgres, nothing of it takes memory.
  const parsers = { [timestamptz]: (text: string) => boundedTime(text, new Date(text)) };
  const { PGlite: Pglite } = await import("@electric-sql/pglite");
  const startParams = [...Pglite.defaultStartParams, "-c", `shared_buffers=${sharedBuffers}`];
  let current: PGlite | undefined = await Pglite.create({ dataDir, startParams, parsers });
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
    if (performance.now() < tryAgainAt) throw unavailable("it will be reopened in a moment");
    tryAgainAt = performance.now() + pauseMs;
    // Recovery also writes.
    await requireSpace(dataDir);
    const opened = await Pglite.create({ dataDir, startParams, parsers }).catch((error: unknown) => {
      throw unavailable("it cannot be reopened", error);
    });
    for (const { channel, onNotification } of listeners) await opened.listen(channel, onNotification);
    current = opened;
    for (const { onGap } of listeners) onGap();
    return opened;
  }

  /** Rethrows an error of an instance, and drops the instance if the error is fatal. */
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
            // Neither commit nor roll back: both would hang.
            lost.reject(error);
            return new Promise<never>(() => {});
          },
        );
        return result;
      });
      return await Promise.race([work.catch((error: unknown) => failed(error, of)), lost.promise]);
    } catch (error) {
      // Kysely waits for the callback to start; its first statement then gets the error.
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
      // The last checkpoint writes; without disk space the next process recovers instead.
      const hasSpace = await requireSpace(dataDir).then(
        () => true,
        () => false,
      );
      if (hasSpace) await current?.close();
    },
  };
}

/** A fatal error of Postgres, or of its WebAssembly runtime. */
function isFatal(error: unknown): boolean {
  if (error instanceof WebAssembly.RuntimeError) return true;
  return (
    error instanceof Error &&
    "severity" in error &&
    (error.severity === "PANIC" || error.severity === "FATAL")
  );
}

/** SQLSTATE 57P03, cannot_connect_now: the error of a starting Postgres. */
function unavailable(why: string, cause?: unknown): Error {
  return Object.assign(new Error(`the embedded database does not answer: ${why}`, { cause }), {
    code: "57P03",
  });
}
