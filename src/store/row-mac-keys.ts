import { createSecretKey, type KeyObject, randomBytes, randomUUID } from "node:crypto";
import { decodeProtectedHeader } from "jose";
import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./database.ts";
import type { Encryption } from "./encryption/encryption.ts";
import { DecryptionFailed } from "./errors.ts";
import { type BoundTable, everyTable, firstTables, isMacKey, type MacKey, tablesOf } from "./mac-columns.ts";
import { notify } from "./notifications/notifications.ts";
import type { Tables } from "./tables.ts";

/** A key as HMACs use it: imported once, since that takes longer than a MAC. */
export interface LoadedKey extends MacKey {
  readonly secret: KeyObject;
  /** The key-encryption key it is stored with. */
  readonly keyId?: string;
}

export interface MacKeys {
  /** Newest first. */
  readonly keys: readonly [LoadedKey, ...LoadedKey[]];
  /** Tables whose rows are rejected without a valid MAC. */
  readonly enforced: ReadonlySet<BoundTable>;
}

const keyTable = "signing_key";
const purpose = "row_mac";
/** In a signing key's encrypted JSON: written after rows were bound. */
export const boundMarker = "rows_bound";

type KeyRow = Pick<Tables["signing_key"], "kid" | "sealed">;

/** The keys of row MACs, which the database stores encrypted, beside the signing keys. */
export function macKeys(database: Database, { encrypt, decrypt }: Encryption) {
  const list = (db: Kysely<Tables>, lock = false) => {
    const query = db.selectFrom(keyTable).select(["kid", "purpose", "sealed"]);
    return (lock ? query.forUpdate() : query).execute();
  };

  /** The stored keys; creates the first one. */
  async function read(): Promise<MacKeys> {
    const rows = await database.read("row_mac.list", (db) => list(db));
    const keys = await readKeys(rows.filter((row) => row.purpose === purpose));
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
      if (isMacKey(found)) {
        const { kid: keyId } = decodeProtectedHeader(sealed);
        keys.push({ ...found, kid, keyId, secret: createSecretKey(found.k, "base64url") });
      } else
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
      if (found[boundMarker] === true || found.bound === true) marked = true;
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

  async function create(bound: boolean): Promise<MacKeys> {
    const key = await make(bound ? everyTable : []);
    await database.write("row_mac.create", async (tx) => {
      await sql`select pg_advisory_xact_lock(hashtext('signing_key row_mac'))`.execute(tx);
      if ((await list(tx)).some((row) => row.purpose === purpose)) return;
      await tx.insertInto(keyTable).values(key.row).execute();
    });
    const rows = await database.read("row_mac.list", (db) => list(db));
    const [newest, ...older] = await readKeys(rows.filter((row) => row.purpose === purpose));
    if (!newest) throw new Error("the row MAC key was deleted while it was created");
    return { keys: [newest, ...older], enforced: new Set(bound ? everyTable : tablesOf(newest)) };
  }

  /** @param after it is newer than this one, whatever the clocks of the replicas say */
  async function make(tables: readonly BoundTable[], after?: MacKey) {
    const kid = randomUUID();
    const createdAt = new Date();
    const bound = tables.length > 0;
    const value = {
      k: randomBytes(32).toString("base64url"),
      createdAt: Math.max(createdAt.getTime(), (after?.createdAt ?? 0) + 1),
      bound,
      tables,
    };
    const sealed = await encrypt(keyTable, [kid], value);
    return { kid, row: { kid, purpose, ...sealed, created_at: createdAt, active_at: createdAt } };
  }

  return {
    read,
    /** Adds a key for rows of these tables, newer than `newest`, which every replica then signs with. @returns its id */
    async add(tables: readonly BoundTable[], newest: MacKey): Promise<string> {
      const fresh = await make(tables, newest);
      await database.write("row_mac.rotate", async (tx) => {
        await tx.insertInto(keyTable).values(fresh.row).execute();
        await notify(tx, { table: keyTable });
      });
      return fresh.kid;
    },
    /** Removes keys that no row needs any more. */
    async remove(tx: Transaction<Tables>, kids: readonly string[]): Promise<void> {
      if (kids.length === 0) return;
      await tx.deleteFrom(keyTable).where("purpose", "=", purpose).where("kid", "in", kids).execute();
      await notify(tx, { table: keyTable });
    },
    /** Records in every key that rows are bound. */
    async markBound(tx: Transaction<Tables>): Promise<void> {
      for (const { kid, sealed, purpose: of } of await list(tx, true)) {
        const value = await decryptIfPossible(kid, sealed);
        // A planted key must not prevent the others from being marked.
        if (value instanceof DecryptionFailed) continue;
        const bound = of === purpose ? { bound: true, tables: everyTable } : { [boundMarker]: true };
        const fresh = await encrypt(keyTable, [kid], { ...value, ...bound });
        await tx.updateTable(keyTable).set(fresh).where("kid", "=", kid).execute();
      }
      await notify(tx, { table: keyTable });
    },
  };
}
