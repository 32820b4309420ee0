import {
  createHmac,
  createSecretKey,
  type KeyObject,
  randomBytes,
  randomUUID,
  timingSafeEqual,
} from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { type Kysely, sql } from "kysely";
import type { Logger } from "pino";
import type { Database, StoreMetrics } from "./database.ts";
import { type Encryption, rowName } from "./encryption/encryption.ts";
import { DecryptionFailed } from "./errors.ts";
import {
  asBound,
  type BoundRow,
  type BoundTable,
  boundColumns,
  canonical,
  everyTable,
  firstTables,
  isMacKey,
  type MacKey,
  type Row,
  tablesOf,
} from "./mac-columns.ts";
import { notify } from "./notifications/notifications.ts";
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
  /** Signs all rows with a new key and removes the old ones. Invalid rows stay invalid. */
  rotate(): Promise<void>;
  /** Marks a signing key (JSON) as stored after rows were bound; `unmark` removes the mark. */
  mark(jwk: Record<string, unknown>): Record<string, unknown>;
  unmark(jwk: Record<string, unknown>): Record<string, unknown>;
}
/** A key as HMACs use it: imported once, since that takes longer than a MAC. */
interface LoadedKey extends MacKey {
  readonly secret: KeyObject;
}

interface State {
  /** Newest first. */
  readonly keys: readonly [LoadedKey, ...LoadedKey[]];
  /** Tables whose rows are rejected without a valid MAC. */
  readonly enforced: ReadonlySet<BoundTable>;
}

const keyTable = "signing_key";
const purpose = "row_mac";
/** In a signing key's encrypted JSON: written after rows were bound. */
const marker = "rows_bound";
/** How long replicas without MACs may run after the first replica with them starts, ms. */
const upgradeMs = 3_600_000;
/** Replicas load a new key within this, ms. */
const settleMs = 2_000;
const reloadEveryMs = 1_000;
const batchSize = 200;

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
  { encrypt, decrypt }: Encryption,
  deps: { readonly logger: Logger; readonly metrics?: Pick<StoreMetrics, "storeRowsRejected"> },
): RowMacs {
  let state: State | undefined;
  let loading: Promise<State> | undefined;
  let loadedAt = Number.NEGATIVE_INFINITY;
  const startedAt = Date.now();

  const load = () => {
    loading ??= read()
      .then((found) => {
        const lost = [...(state?.enforced ?? [])].filter((table) => !found.enforced.has(table));
        if (lost.length > 0)
          deps.logger.error(
            { tables: lost },
            "the database no longer reports its rows as bound, as after a restore from an old backup; this process still rejects rows without a MAC",
          );
        state = { ...found, enforced: new Set([...found.enforced, ...lost]) };
        loadedAt = performance.now();
        return state;
      })
      .finally(() => {
        loading = undefined;
      });
    return loading;
  };
  const current = async () => state ?? (await load());
  const loaded = (): State => {
    if (!state) throw new Error("the row MAC key is not loaded");
    return state;
  };

  async function read(): Promise<State> {
    const rows = await database.read("row_mac.list", (db) => keyRows(db));
    const ofMacs = rows.filter((row) => row.purpose === purpose);
    const keys = await readKeys(ofMacs);
    const others = rows.filter((row) => row.purpose !== purpose);
    const [newest, ...older] = keys;
    const tables = keys.flatMap(tablesOf);
    if (newest && tables.length > 0) return { keys: [newest, ...older], enforced: new Set(tables) };
    const { marked, decrypted } = await inspectKeys(others);
    // Only a decryptable key without the mark shows that a version without MACs wrote rows.
    if (!newest) return create(marked || decrypted === 0);
    return { keys: [newest, ...older], enforced: new Set(marked ? firstTables : []) };
  }

  async function readKeys(rows: readonly KeyRow[]): Promise<LoadedKey[]> {
    const keys: LoadedKey[] = [];
    let failure: unknown;
    for (const { kid, sealed } of rows) {
      const found = await decryptIfPossible(kid, sealed);
      if (isMacKey(found)) keys.push({ ...found, kid, secret: createSecretKey(found.k, "base64url") });
      else
        failure =
          found instanceof DecryptionFailed ? found : new DecryptionFailed("ciphertext_moved", keyTable);
    }
    // Without the key, forged rows cannot be detected.
    if (keys.length === 0 && failure) throw failure;
    return keys.sort((a, b) => b.createdAt - a.createdAt);
  }

  /** How many of these keys can be decrypted, and whether one of them was stored after rows were bound. */
  async function inspectKeys(rows: readonly KeyRow[]): Promise<{ marked: boolean; decrypted: number }> {
    let [marked, decrypted] = [false, 0];
    for (const { kid, sealed } of rows) {
      const found = await decryptIfPossible(kid, sealed);
      if (found instanceof DecryptionFailed) continue;
      decrypted++;
      // A MAC key counts as well, even if its purpose column was changed.
      if (found[marker] === true || found.bound === true) marked = true;
    }
    return { marked, decrypted };
  }

  async function decryptIfPossible(
    kid: string,
    sealed: string,
  ): Promise<Readonly<Record<string, unknown>> | DecryptionFailed> {
    try {
      return await decrypt<Record<string, unknown>>(keyTable, [kid], sealed);
    } catch (error) {
      if (error instanceof DecryptionFailed) return error;
      throw error;
    }
  }

  async function create(bound: boolean): Promise<State> {
    const key = await makeKey(bound ? everyTable : []);
    await database.write("row_mac.create", async (tx) => {
      await sql`select pg_advisory_xact_lock(hashtext('signing_key row_mac'))`.execute(tx);
      if ((await keyRows(tx)).some((row) => row.purpose === purpose)) return;
      await tx.insertInto(keyTable).values(key.row).execute();
    });
    const rows = await database.read("row_mac.list", (db) => keyRows(db));
    const [newest, ...older] = await readKeys(rows.filter((row) => row.purpose === purpose));
    if (!newest) throw new Error("the row MAC key was deleted while it was created");
    return { keys: [newest, ...older], enforced: new Set(bound ? everyTable : tablesOf(newest)) };
  }

  async function makeKey(tables: readonly BoundTable[]) {
    const kid = randomUUID();
    const createdAt = new Date();
    const bound = tables.length > 0;
    const value = { k: randomBytes(32).toString("base64url"), createdAt: createdAt.getTime(), bound, tables };
    const sealed = await encrypt(keyTable, [kid], value);
    return { kid, row: { kid, purpose, ...sealed, created_at: createdAt, active_at: createdAt } };
  }

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

  /** Signs the rows of these tables that `wanted` accepts with the newest key. */
  async function signAll(
    tables: readonly BoundTable[],
    wanted: (table: BoundTable, row: Row) => boolean,
  ): Promise<void> {
    for (const table of tables) {
      const { keys, columns } = boundColumns[table];
      const keyColumns = sql.join(columns.slice(0, keys).map((column) => sql.ref(column)));
      const all = sql.join([...columns, "mac"].map((column) => sql.ref(column)));
      let after: unknown[] | undefined;
      do {
        const rows = await database.write(`${table}.bind`, async (tx) => {
          const batch = await sql<Row>`
            select ${all} from ${sql.table(table)}
            ${after === undefined ? sql`` : sql`where (${keyColumns}) > (${sql.join(after)})`}
            order by ${keyColumns} limit ${batchSize} for update`.execute(tx);
          for (const row of batch.rows) {
            if (!wanted(table, row)) continue;
            const primaryKey = sql.join(columns.slice(0, keys).map((column) => row[column]));
            await sql`update ${sql.table(table)} set mac = ${macBy(loaded().keys[0], table, asBound(row))}
              where (${keyColumns}) = (${primaryKey})`.execute(tx);
          }
          return batch.rows;
        });
        const last = rows.length === batchSize ? rows.at(-1) : undefined;
        after = last && columns.slice(0, keys).map((column) => last[column]);
      } while (after !== undefined);
    }
  }

  async function bind({ now = false } = {}): Promise<void> {
    const { keys, enforced } = await current();
    const missing = everyTable.filter((table) => !enforced.has(table));
    if (missing.length === 0) return;
    // If some tables are bound already, the key is older than the upgrade that added the others.
    const since = enforced.size === 0 ? keys[0].createdAt : startedAt;
    if (!now && Date.now() - since < upgradeMs) return;
    // Rows that older replicas changed have an invalid MAC; these replicas have stopped by now.
    await signAll(missing, (table, row) => !isValid(table, asBound(row)));
    await database.write("row_mac.bound", async (tx) => {
      for (const { kid, sealed, purpose: of } of await keyRows(tx, true)) {
        const value = await decryptIfPossible(kid, sealed);
        // A planted key must not prevent the others from being marked.
        if (value instanceof DecryptionFailed) continue;
        const bound = of === purpose ? { bound: true, tables: everyTable } : { [marker]: true };
        const fresh = await encrypt(keyTable, [kid], { ...value, ...bound });
        await tx.updateTable(keyTable).set(fresh).where("kid", "=", kid).execute();
      }
      await notify(tx, { table: keyTable });
    });
    await load();
    deps.logger.info("stored rows are bound: rows not written by the gateway are rejected from now on");
  }

  return {
    async ready() {
      await current();
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
      if (state) await load();
    },
    bind,
    async rotate() {
      const { keys, enforced } = await current();
      if (enforced.size === 0) return;
      const fresh = await makeKey([...enforced]);
      await database.write("row_mac.rotate", async (tx) => {
        await tx.insertInto(keyTable).values(fresh.row).execute();
        await notify(tx, { table: keyTable });
      });
      await delay(settleMs);
      await load();
      const isOld = (mac: unknown) => typeof mac === "string" && !mac.startsWith(`${fresh.kid}.`);
      await signAll(everyTable, (table, row) => isOld(row.mac) && isValid(table, asBound(row)));
      await database.write("row_mac.remove_old", async (tx) => {
        const old = keys.map(({ kid }) => kid);
        await tx.deleteFrom(keyTable).where("purpose", "=", purpose).where("kid", "in", old).execute();
        await notify(tx, { table: keyTable });
      });
      await load();
    },
    mark: (jwk) => (loaded().enforced.size > 0 ? { ...jwk, [marker]: true } : jwk),
    unmark: ({ [marker]: _marked, ...jwk }) => jwk,
  };
}

type KeyRow = Pick<Tables["signing_key"], "kid" | "sealed">;

function keyRows(db: Kysely<Tables>, lock = false) {
  const query = db.selectFrom(keyTable).select(["kid", "purpose", "sealed"]);
  return (lock ? query.forUpdate() : query).execute();
}
