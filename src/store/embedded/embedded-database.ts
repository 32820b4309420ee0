import { link, readFile, readlink, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Kysely, PGliteDialect } from "kysely";
import type { Logger } from "pino";
import type { StoreMetrics } from "../database.ts";
import { StoreMisconfigured } from "../errors.ts";
import {
  changeChannel,
  type Listener,
  messageChannel,
  notificationHub,
  sessionChannel,
} from "../notifications/notifications.ts";
import type { Tables } from "../tables.ts";
import { makeDataFolder } from "./data-folder.ts";
import { openPglite, type ReopeningPglite, requireSpace } from "./pglite.ts";

/** A lock holder touches its lock file this often, ms. */
const touchEveryMs = 4_000;
/** Attempts to take over a stale lock that others may also take over; 50 ms apart. */
const attempts = 60;
/** A takeover lasts no longer than this, ms. */
const takeoverMs = 10_000;
/** A lock file that has not been touched for this long is stale, ms. */
const silentMs = 12_000;

/**
 * Locks `dir` for this process with a lock file: two processes on one embedded database would corrupt it. A lock whose process is
 * gone is stale. If the lock file names our own process id, it belongs to a previous start of this container, or to another
 * container on the same volume; a live holder keeps touching the file, which takes a few seconds to detect. The same applies to a
 * process of another container or machine, whose id has no meaning here.
 * @param options.silentMs how long to watch such a lock file
 * @returns a function that releases the lock
 * @throws StoreMisconfigured `embedded_database_in_use`
 */
export async function lockFolder(
  dir: string,
  options: { readonly silentMs?: number } = {},
): Promise<() => Promise<void>> {
  const path = join(dir, "lock");
  // Written before it is linked: an empty lock file would look stale.
  const claim = join(dir, `lock.${process.pid}`);
  await rm(claim, { force: true });
  // `wx` does not follow a symbolic link that another user may have created.
  await writeFile(claim, `${process.pid} ${await namespace}`, { mode: 0o600, flag: "wx" });
  try {
    await hold(claim, path, dir, options.silentMs ?? silentMs);
  } finally {
    await rm(claim, { force: true });
  }
  const touch = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => {});
  }, touchEveryMs);
  touch.unref();
  return async () => {
    clearInterval(touch);
    heldHere.delete(path);
    await rm(path, { force: true });
  };
}

async function hold(claim: string, path: string, dir: string, watchMs: number): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await link(claim, path);
      heldHere.add(path);
      return;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    }
    const found = await readLock(path);
    if (found === undefined) continue;
    const known = found.holder !== process.pid && found.namespace === (await namespace);
    const alive = known ? isAlive(found.holder) : heldHere.has(path) || (await isTouched(path, watchMs));
    if (alive || attempt === attempts)
      throw new StoreMisconfigured(
        "embedded_database_in_use",
        `database.dir ${dir} is in use by process ${found.holder}: the embedded database serves one process at a time; stop that one, or set database.url (DATABASE_URL) to a Postgres server`,
      );
    await removeStale(path, join(dir, "lock.takeover"), found);
  }
}

const heldHere = new Set<string>();

/** Identifies the PID namespace: the boot of this machine, and the container. */
const namespace = Promise.all([
  readFile("/proc/sys/kernel/random/boot_id", "utf8"),
  readlink("/proc/self/ns/pid"),
]).then(
  ([boot, pids]) => `${boot.trim()}/${pids}`,
  () => hostname(),
);

interface Found {
  readonly holder: number;
  /** Undefined: written by a version that did not record it. */
  readonly namespace?: string;
  readonly inode: number;
  readonly touchedAt: number;
}

/** Undefined: the lock was just released. */
async function readLock(path: string): Promise<Found | undefined> {
  try {
    const [{ ino: inode, mtimeMs: touchedAt }, text] = await Promise.all([
      stat(path),
      readFile(path, "utf8"),
    ]);
    const [holder, where] = text.split(" ");
    return { holder: Number(holder), namespace: where, inode, touchedAt };
  } catch {
    return undefined;
  }
}

/** Removes exactly this lock file; the guard serializes takeovers, or a second one would remove the first one's new lock. */
async function removeStale(path: string, guard: string, found: Found): Promise<void> {
  try {
    await writeFile(guard, String(process.pid), { mode: 0o600, flag: "wx" });
  } catch {
    const since = (await stat(guard).catch(() => undefined))?.mtimeMs ?? Date.now();
    if (Date.now() - since > takeoverMs) await rm(guard, { force: true });
    await delay(50);
    return;
  }
  try {
    const now = await readLock(path);
    const same =
      now?.holder === found.holder && now.inode === found.inode && now.touchedAt === found.touchedAt;
    if (same) await rm(path, { force: true });
  } finally {
    await rm(guard, { force: true });
  }
}

/** Whether a holder touches the lock file. */
async function isTouched(path: string, watchMs: number): Promise<boolean> {
  const touchedAt = async () => (await stat(path).catch(() => undefined))?.mtimeMs;
  const first = await touchedAt();
  const silentFor = first === undefined ? Number.POSITIVE_INFINITY : Date.now() - first;
  for (let left = watchMs - silentFor; left > 0; left -= 250) {
    await delay(Math.min(250, left));
    const now = await touchedAt();
    if (now !== first) return now !== undefined;
  }
  return false;
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/**
 * Opens Postgres inside this process, with its files in `dir/database`. Only one process at a time.
 * @throws StoreMisconfigured `embedded_database_in_use`, `database_dir_unusable`
 * @throws Error `ENOSPC`
 */
export async function openEmbeddedDatabase(
  dir: string,
): Promise<{ db: Kysely<Tables>; pglite: ReopeningPglite; close: () => Promise<void> }> {
  await makeDataFolder(dir);
  await requireSpace(dir);
  const unlock = await lockFolder(dir);
  try {
    const pglite = await openPglite(join(dir, "database"));
    const db = new Kysely<Tables>({ dialect: new PGliteDialect({ pglite }) });
    const close = async () => {
      await db.destroy();
      if (!pglite.closed) await pglite.close();
      await unlock();
    };
    return { db, pglite, close };
  } catch (error) {
    await unlock();
    throw error;
  }
}

/** Notifications of the embedded database: same process, no connection to lose, so healthy until closed. */
export async function listenEmbedded(
  pglite: ReopeningPglite,
  options: { logger: Logger; metrics?: Pick<StoreMetrics, "storeListenerUp"> },
): Promise<Listener> {
  const hub = notificationHub((error) => options.logger.error({ err: error }, "change listener failed"));
  await pglite.listen(changeChannel, hub.receive, () => hub.emit({ table: "everything" }));
  const received = (to: string) => hub.emit({ table: "replica_message", to });
  await pglite.listen(messageChannel, received, () => {});
  const changed = (name: string) => hub.emit({ table: "aggregate_session", name });
  await pglite.listen(sessionChannel, changed, () => {});
  options.metrics?.storeListenerUp.set(1);
  let closed = false;
  return {
    subscribe: hub.subscribe,
    healthy: () => !closed && !pglite.closed,
    ready: async () => "connected",
    close: async () => {
      closed = true;
      options.metrics?.storeListenerUp.set(0);
    },
  };
}
