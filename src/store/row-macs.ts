import { createHmac, timingSafeEqual } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Transaction } from "kysely";
import type { Logger } from "pino";
import { bindRows } from "./bind-rows.ts";
import type { Database, StoreMetrics } from "./database.ts";
import { type Encryption, rowName } from "./encryption/encryption.ts";
import { type BoundRow, type BoundTable, boundColumns, canonical, everyTable } from "./mac-columns.ts";
import { boundMarker, type LoadedKey, type MacKeys, macKeys } from "./row-mac-keys.ts";
import type { Tables } from "./tables.ts";

/** MACs of rows (HMAC-SHA-256), with a key that the database stores encrypted. */
export interface RowMacs {
  /** Loads the key, or creates the first one. Await it before a transaction that signs or verifies. */
  ready(): Promise<void>;
  /** The MAC to write with these values. */
  sign<T extends BoundTable>(table: T, row: BoundRow<T>): string;
  /** Whether the MAC of a row is valid; if not, it is reported, and the row must be treated as absent. No I/O. */
  accepts<T extends BoundTable>(table: T, row: BoundRow<T> & { readonly mac: string | null }): boolean;
  /** The same outside a transaction: loads a key that another replica has just created. */
  find<T extends BoundTable, R extends BoundRow<T> & { readonly mac: string | null }>(
    table: T,
    row: R | undefined,
  ): Promise<R | undefined>;
  filter<T extends BoundTable, R extends BoundRow<T> & { readonly mac: string | null }>(
    table: T,
    rows: readonly R[],
  ): Promise<R[]>;
  /**
   * Whether a row may be overwritten because its MAC is invalid. Reloads the keys first, since another replica may have created one.
   * Outside a transaction.
   */
  isForged<T extends BoundTable>(
    table: T,
    row: BoundRow<T> & { readonly mac: string | null },
  ): Promise<boolean>;
  /** Reloads keys that another replica changed. */
  reload(): Promise<void>;
  /**
   * Adds a MAC to every row, and rejects rows without a MAC from then on, once replicas of versions without MACs had time to stop.
   * @param options.now do not wait
   */
  bind(options?: { readonly now?: boolean }): Promise<void>;
  /**
   * Creates a key to sign all rows with, or continues with the one of an unfinished rotation.
   * @param unfinished the key of that rotation
   * @param keyId the newest key-encryption key
   * @returns the key's id; undefined while rows are not bound
   */
  beginRotation(unfinished: string | undefined, keyId: string): Promise<string | undefined>;
  /** The MAC by key `kid` of a row that an older key has signed; undefined if it is not needed, or if the row's MAC is invalid. */
  resign<T extends BoundTable>(
    kid: string,
    table: T,
    row: BoundRow<T> & { readonly mac: string | null },
  ): string | undefined;
  /** Whether the row counts as absent because of its MAC. Unlike `accepts`, reports nothing. */
  isRejected<T extends BoundTable>(table: T, row: BoundRow<T> & { readonly mac: string | null }): boolean;
  /** Removes all keys but `kid`; await `reload` afterwards. */
  endRotation(tx: Transaction<Tables>, kid: string): Promise<void>;
  /** Marks a signing key (JSON) as stored after rows were bound; `unmark` removes the mark. */
  mark(jwk: Record<string, unknown>): Record<string, unknown>;
  unmark(jwk: Record<string, unknown>): Record<string, unknown>;
}
/** How long replicas without MACs may run after the first replica with them starts, ms. */
const upgradeMs = 3_600_000;
/** Replicas load a new key within this, ms. */
const settleMs = 2_000;
const reloadEveryMs = 1_000;

/**
 * Binds the unencrypted columns of a row to the row. An attacker who can write to the database, but does not have the key-encryption
 * keys, cannot create or change rows. Restoring a row to an earlier state is not prevented.
 *
 * A new database rejects rows without a MAC from the start. A database of a version without MACs accepts them for an hour, and is
 * then bound once (`bind`). Every signing key's encrypted JSON records this: deleting rows, or adding rows that cannot be decrypted,
 * does not trigger a second binding.
 */
export function rowMacs(
  database: Database,
  encryption: Encryption,
  deps: {
    readonly logger: Logger;
    readonly metrics?: Pick<StoreMetrics, "storeRowsRejected">;
    /** Whether notifications about new keys arrive (always). */
    readonly healthy?: () => boolean;
  },
): RowMacs {
  const stored = macKeys(database, encryption);
  let state: MacKeys | undefined;
  let loading: Promise<MacKeys> | undefined;
  let loadedAt = Number.NEGATIVE_INFINITY;
  let failed = false;
  const startedAt = Date.now();

  const load = () => {
    loading ??= stored
      .read()
      .then((found) => {
        const lost = [...(state?.enforced ?? [])].filter((table) => !found.enforced.has(table));
        if (lost.length > 0)
          deps.logger.error(
            { tables: lost },
            "the database no longer reports its rows as bound, as after a restore from an old backup; this process still rejects rows without a MAC",
          );
        state = { ...found, enforced: new Set([...found.enforced, ...lost]) };
        loadedAt = performance.now();
        failed = false;
        return state;
      })
      .finally(() => {
        loading = undefined;
      });
    return loading;
  };
  const current = async () => state ?? (await load());
  const loaded = (): MacKeys => {
    if (!state) throw new Error("the row MAC key is not loaded");
    return state;
  };

  function macBy<T extends BoundTable>(key: LoadedKey, table: T, row: BoundRow<T>): string {
    const values = boundColumns[table].columns.map((column) => canonical(Reflect.get(row, column)));
    const mac = createHmac("sha256", key.secret).update(JSON.stringify([table, ...values]));
    return `${key.kid}.${mac.digest("base64url")}`;
  }

  function isValid<T extends BoundTable>(
    table: T,
    row: BoundRow<T> & { readonly mac: string | null },
  ): boolean {
    const { keys } = loaded();
    const key = keys.find(({ kid }) => row.mac?.startsWith(`${kid}.`));
    if (!key || row.mac === null) return false;
    const [given, wanted] = [Buffer.from(row.mac), Buffer.from(macBy(key, table, row))];
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  }

  function accepts<T extends BoundTable>(
    table: T,
    row: BoundRow<T> & { readonly mac: string | null },
  ): boolean {
    if (!loaded().enforced.has(table) || isValid(table, row)) return true;
    deps.metrics?.storeRowsRejected.inc({ table });
    const { keys, columns } = boundColumns[table];
    const primaryKey = columns.slice(0, keys).map((column) => String(Reflect.get(row, column)));
    deps.logger.error(
      { table, row: rowName(table, primaryKey) },
      "a stored row was not written by the gateway, or was changed since; it is treated as absent",
    );
    return false;
  }

  async function find<T extends BoundTable, R extends BoundRow<T> & { readonly mac: string | null }>(
    table: T,
    row: R | undefined,
  ): Promise<R | undefined> {
    if (row === undefined) return undefined;
    const { keys, enforced } = await current();
    const kid = row.mac?.split(".")[0];
    const unknown = enforced.has(table) && kid !== undefined && !keys.some((key) => key.kid === kid);
    if (unknown && performance.now() - loadedAt > reloadEveryMs) await load();
    return accepts(table, row) ? row : undefined;
  }

  async function bind({ now = false } = {}): Promise<void> {
    const { keys, enforced } = await current();
    const missing = everyTable.filter((table) => !enforced.has(table));
    if (missing.length === 0) return;
    // If some tables are bound already, the key is older than the upgrade that added the others.
    const since = enforced.size === 0 ? keys[0].createdAt : startedAt;
    if (!now && Date.now() - since < upgradeMs) return;
    const bound = await bindRows(database, missing, {
      // Rows that older replicas changed have an invalid MAC; these replicas have stopped by now.
      sign: (table, row) => (isValid(table, row) ? undefined : macBy(loaded().keys[0], table, row)),
      end: (tx) => stored.markBound(tx),
    });
    // Another replica is running it.
    if (!bound) return;
    await load();
    deps.logger.info("stored rows are bound: rows not written by the gateway are rejected from now on");
  }

  return {
    async ready() {
      // What an old key signs after a rotation is lost: without notifications, the keys may have been replaced.
      const unsure = failed || (deps.healthy?.() === false && performance.now() - loadedAt > reloadEveryMs);
      if (!state || unsure) await load();
    },
    sign: (table, row) => macBy(loaded().keys[0], table, row),
    accepts,
    find,
    async filter(table, rows) {
      const found = await Promise.all(rows.map((row) => find(table, row)));
      return found.filter((row) => row !== undefined);
    },
    async isForged(table, row) {
      const { enforced } = await current();
      if (!enforced.has(table) || isValid(table, row)) return false;
      await load();
      return !accepts(table, row);
    },
    async reload() {
      // A load under way may have read the rows before they changed.
      await loading?.catch(() => {});
      if (!state) return;
      failed = true;
      await load();
    },
    bind,
    async beginRotation(unfinished, keyId) {
      const { keys, enforced } = await load();
      if (enforced.size === 0) return undefined;
      const [newest, ...older] = keys;
      // A key that was stored with another key-encryption key may have leaked with it.
      if (newest.kid === unfinished && newest.keyId === keyId && older.length > 0) return newest.kid;
      const kid = await stored.add([...enforced], newest);
      await delay(settleMs);
      if ((await load()).keys[0].kid !== kid)
        throw new Error("the newest row MAC key is not the one that this rotation has created");
      return kid;
    },
    isRejected: (table, row) => loaded().enforced.has(table) && !isValid(table, row),
    resign(kid, table, row) {
      const [newest] = loaded().keys;
      if (newest.kid !== kid) throw new Error("another rotation of the row MAC key has begun");
      return row.mac !== null && !row.mac.startsWith(`${kid}.`) && isValid(table, row)
        ? macBy(newest, table, row)
        : undefined;
    },
    async endRotation(tx, kid) {
      const others = loaded().keys.filter((key) => key.kid !== kid);
      await stored.remove(
        tx,
        others.map((key) => key.kid),
      );
    },
    mark: (jwk) => (loaded().enforced.size > 0 ? { ...jwk, [boundMarker]: true } : jwk),
    unmark: ({ [boundMarker]: _marked, ...jwk }) => jwk,
  };
}
