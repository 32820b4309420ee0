import { link, mkdir, readFile, readlink, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Kysely, PGliteDialect } from "kysely";
import type { Logger } from "pino";
import type { StoreMetrics } from "../database.ts";
import { StoreMisconfigured } from "../errors.ts";
import { changeChannel, type Listener, notificationHub } from "../notifications/notifications.ts";
import type { Tables } from "../tables.ts";
import { openPglite, type ReopeningPglite, requireSpace } from "./pglite.ts";

/** A holder touches its claim this often, ms. */
const touchEveryMs = 4_000;
/** Tries to take over what others try to take over, too; 50 ms apart. */
const attempts = 60;
/** Nobody takes that long to remove a file, ms. */
const takeoverMs = 10_000;
/** One that has not been touched for so long has nobody behind it, ms. */
const silentMs = 12_000;

/**
 * Claims `dir` for this process by a file that names it: two processes on one embedded database would corrupt it.
 * A claim whose process is gone is void. One that names our own id belonged to the first process of a container that was
 * restarted, or belongs to that of another container on the same volume, which then keeps touching it: that takes a few seconds
 * to see. So it does with a process of another container or machine, whose id says nothing here.
 * @param options.silentMs how long such a claim is watched
 * @returns the way to give it back
 * @throws StoreMisconfigured `embedded_database_in_use`
 */
export async function lockFolder(
  dir: string,
  options: { readonly silentMs?: number } = {},
): Promise<() => Promise<void>> {
  const path = join(dir, "lock");
  // Written before it stands: whoever found it empty would take its holder for dead.
  const claim = join(dir, `lock.${process.pid}`);
  await rm(claim, { force: true });
  // Never through a link that somebody else has laid there.
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
    const found = await look(path);
    if (found === undefined) continue;
    const known = found.holder !== process.pid && found.namespace === (await namespace);
    const alive = known ? isAlive(found.holder) : heldHere.has(path) || (await isTouched(path, watchMs));
    if (alive || attempt === attempts)
      throw new StoreMisconfigured(
        "embedded_database_in_use",
        `database.dir ${dir} is in use by process ${found.holder}: the embedded database serves one process at a time; stop that one, or set database.url (DATABASE_URL) to a Postgres server`,
      );
    await removeVoid(path, join(dir, "lock.takeover"), found);
  }
}

const heldHere = new Set<string>();

/** Where process ids mean the same as here: this start of this machine, and there this container. */
const namespace = Promise.all([
  readFile("/proc/sys/kernel/random/boot_id", "utf8"),
  readlink("/proc/self/ns/pid"),
]).then(
  ([boot, pids]) => `${boot.trim()}/${pids}`,
  () => hostname(),
);

interface Found {
  readonly holder: number;
  /** Undefined: by a version that did not write it. */
  readonly namespace?: string;
  readonly inode: number;
  readonly touchedAt: number;
}

/** Undefined: it has just been given back. */
async function look(path: string): Promise<Found | undefined> {
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

/** Removes exactly the claim that was looked at; one at a time, or the second would remove what the first has put there. */
async function removeVoid(path: string, guard: string, found: Found): Promise<void> {
  try {
    await writeFile(guard, String(process.pid), { mode: 0o600, flag: "wx" });
  } catch {
    const since = (await stat(guard).catch(() => undefined))?.mtimeMs ?? Date.now();
    if (Date.now() - since > takeoverMs) await rm(guard, { force: true });
    await delay(50);
    return;
  }
  try {
    const now = await look(path);
    const same =
      now?.holder === found.holder && now.inode === found.inode && now.touchedAt === found.touchedAt;
    if (same) await rm(path, { force: true });
  } finally {
    await rm(guard, { force: true });
  }
}

/** Watches whether somebody touches the claim. */
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
 * Postgres inside this process, its files in `dir/database`. One process at a time.
 * @throws StoreMisconfigured `embedded_database_in_use`
 * @throws Error `ENOSPC`
 */
export async function openEmbeddedDatabase(
  dir: string,
): Promise<{ db: Kysely<Tables>; pglite: ReopeningPglite; close: () => Promise<void> }> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
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

/** Notifications of the embedded database: same process, no connection that could be lost, so healthy until closed. */
export async function listenEmbedded(
  pglite: ReopeningPglite,
  options: { logger: Logger; metrics?: Pick<StoreMetrics, "storeListenerUp"> },
): Promise<Listener> {
  const hub = notificationHub((error) => options.logger.error({ err: error }, "a change listener failed"));
  await pglite.listen(changeChannel, hub.receive, () => hub.emit({ table: "everything" }));
  options.metrics?.storeListenerUp.set(1);
  let closed = false;
  return {
    subscribe: hub.subscribe,
    healthy: () => !closed && !pglite.closed,
    ready: async () => "hearing",
    close: async () => {
      closed = true;
      options.metrics?.storeListenerUp.set(0);
    },
  };
}
