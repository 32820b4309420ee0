import { type Kysely, sql, type Transaction } from "kysely";
import { type AuditEvent, writeAuditEvent } from "./audit-events.ts";
import type { Database } from "./database.ts";
import type { Encryption } from "./encryption/encryption.ts";
import { notify } from "./notifications/notifications.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

/** What signing keys sign; commands and pages offer every purpose. */
export const signingKeyPurposes = [
  "external_token",
  "assertion",
  "upstream_client",
  "check_metadata",
  "audit",
] as const;
export type SigningKeyPurpose = (typeof signingKeyPurposes)[number];

export interface SigningKey {
  readonly kid: string;
  readonly purpose: SigningKeyPurpose;
  /** Private JWK (ES256; HS256 for `check_metadata`), encrypted at rest. */
  readonly privateJwk: Record<string, unknown>;
  readonly createdAt: Date;
  /** Signs from then on; published earlier, so that verifiers know it in time. */
  readonly activeAt: Date;
  /** End of publication. */
  readonly expiresAt?: Date;
}

export interface SigningKeys {
  /** All unexpired keys, newest `activeAt` first. */
  list(purpose: SigningKeyPurpose): Promise<SigningKey[]>;
  /** Creates the first key of a purpose, once across replicas, and returns the stored keys. */
  ensure(purpose: SigningKeyPurpose, make: () => Promise<SigningKey>): Promise<SigningKey[]>;
  /** Adds a key and sets the expiry of the older ones of its purpose. */
  rotate(key: SigningKey, oldExpireAt: Date, audit: AuditEvent): Promise<void>;
  /** Removes keys whose successor has signed since before `at`. @returns how many */
  removeReplaced(purpose: SigningKeyPurpose, at: Date): Promise<number>;
}

const table = "signing_key";

/** The gateway's private keys, encrypted; the first of each purpose is created once across replicas. */
export function signingKeys(
  database: Database,
  { encrypt, decrypt }: Encryption,
  macs: RowMacs,
): SigningKeys & {
  /** `rotate` within another transaction. `macs` must be ready. */
  rotateIn(tx: Transaction<Tables>, key: SigningKey, oldExpireAt: Date, audit: AuditEvent): Promise<void>;
} {
  const select = (db: Kysely<Tables>, purpose: SigningKeyPurpose) =>
    db
      .selectFrom(table)
      .selectAll()
      .where("purpose", "=", purpose)
      .where((e) => e.or([e("expires_at", "is", null), e("expires_at", ">", new Date())]))
      .orderBy("active_at", "desc")
      .orderBy("kid")
      .execute();

  const insert = async (tx: Transaction<Tables>, key: SigningKey) => {
    const clear = {
      kid: key.kid,
      purpose: key.purpose,
      created_at: key.createdAt,
      active_at: key.activeAt,
      expires_at: key.expiresAt ?? null,
    };
    const sealed = await encrypt(table, [key.kid], macs.mark(key.privateJwk));
    await tx
      .insertInto(table)
      .values({ ...clear, ...sealed, mac: macs.sign(table, clear) })
      .execute();
  };

  async function list(purpose: SigningKeyPurpose): Promise<SigningKey[]> {
    const rows = await database.read("signing_key.list", (db) => select(db, purpose));
    return Promise.all(
      (await macs.filter(table, rows)).map(async (row) => ({
        kid: row.kid,
        purpose,
        privateJwk: macs.unmark(await decrypt<Record<string, unknown>>(table, [row.kid], row.sealed)),
        createdAt: row.created_at,
        activeAt: row.active_at,
        ...(row.expires_at && { expiresAt: row.expires_at }),
      })),
    );
  }

  const rotateIn = async (
    tx: Transaction<Tables>,
    key: SigningKey,
    oldExpireAt: Date,
    audit: AuditEvent,
  ): Promise<void> => {
    await lock(tx, key.purpose);
    const older = await tx
      .selectFrom(table)
      .selectAll()
      .where("purpose", "=", key.purpose)
      .where((e) => e.or([e("expires_at", "is", null), e("expires_at", ">", oldExpireAt)]))
      .forUpdate()
      .execute();
    for (const row of older.filter((one) => macs.accepts(table, one)))
      await tx
        .updateTable(table)
        .set({ expires_at: oldExpireAt, mac: macs.sign(table, { ...row, expires_at: oldExpireAt }) })
        .where("kid", "=", row.kid)
        .execute();
    await insert(tx, key);
    await writeAuditEvent(tx, audit);
    await notify(tx, { table: "signing_key" });
  };

  return {
    list,
    rotateIn,
    async ensure(purpose, make) {
      const present = await list(purpose);
      if (present.length > 0) return present;
      const made = await make();
      await macs.ready();
      await database.write("signing_key.ensure", async (tx) => {
        await lock(tx, purpose);
        if ((await select(tx, purpose)).some((row) => macs.accepts(table, row))) return;
        await insert(tx, made);
        await notify(tx, { table: "signing_key" });
      });
      return list(purpose);
    },
    async rotate(key, oldExpireAt, audit) {
      await macs.ready();
      await database.write("signing_key.rotate", (tx) => rotateIn(tx, key, oldExpireAt, audit));
    },
    async removeReplaced(purpose, at) {
      // Only of keys that are genuine: a forged successor must not remove one.
      const signing = (await list(purpose)).filter(({ activeAt }) => activeAt < at);
      const replaced = signing.slice(1).map(({ kid }) => kid);
      if (replaced.length === 0) return 0;
      await database.write("signing_key.remove", async (tx) => {
        await tx.deleteFrom(table).where("kid", "in", replaced).execute();
        await notify(tx, { table: "signing_key" });
      });
      return replaced.length;
    },
  };
}

/** One writer per purpose until the transaction ends. */
async function lock(tx: Transaction<Tables>, purpose: SigningKeyPurpose): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtext(${`signing_key ${purpose}`}))`.execute(tx);
}
