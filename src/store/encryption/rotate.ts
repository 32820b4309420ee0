import { setTimeout as delay } from "node:timers/promises";
import { type RawBuilder, sql } from "kysely";
import { z } from "zod";
import { mapAtOnce } from "../../util/at-once.ts";
import { type AuditEvent, writeAuditEvent } from "../audit-events.ts";
import type { Database } from "../database.ts";
import { DecryptionFailed, StoreUnavailable } from "../errors.ts";
import { asBound, type BoundTable, boundColumns, everyTable, isBoundTable } from "../mac-columns.ts";
import type { RowMacs } from "../row-macs.ts";
import { type Change, type PageRow, readPage, writeChanges } from "../row-pages.ts";
import { type Position, type RowPass, RowPassLost, takeRowPass } from "../row-pass.ts";
import { type Encryption, rowName } from "./encryption.ts";

/** Every table with ciphertexts, and the columns of its primary key, in the order in which ciphertexts are bound to them. */
const encryptedTables = {
  upstream_token: ["user_id", "route_id", "upstream"],
  pending_authorization: ["kind", "state_name"],
  client_registration: ["issuer", "redirect_uri"],
  authorization_server_record: ["model", "id_name"],
  sign_in_session: ["user_id"],
  signing_key: ["kid"],
  stored_route: ["id"],
  aggregate_session: ["handle_name"],
  replica_message: ["to_replica", "id"],
} as const;

type EncryptedTable = keyof typeof encryptedTables;

type RotatedTable = EncryptedTable | BoundTable;

/** Tables whose rows have a ciphertext, a MAC or both. */
const rotatedTables: readonly RotatedTable[] = [
  ...new Set([...Object.keys(encryptedTables).filter(isEncryptedTable), ...everyTable]),
];

/** Ciphertexts that are re-encrypted at the same time: a key service is asked twice for each. */
const atOnce = 16;
/** Passes over all rows. The first changes them, and the second finds what was written with an older key in the meantime. */
const maxPasses = 4;
/** Rows that no known key decrypts, in the log. */
const maxReported = 1_000;
/** Waits between attempts while the database or the key service does not answer, ms. */
const retryAfterMs = [500, 1_000, 2_000, 4_000, 8_000];

/** How far a rotation has come. */
export interface RotationProgress {
  /** `checking`: looks for rows that were written with an older key in the meantime. */
  readonly step: "rotating" | "checking";
  readonly table: string;
  /** Rows looked at since this run began this step. */
  readonly rows: number;
  /** Estimate of the rows left in this step; undefined: the database has no statistics yet. */
  readonly left?: number;
}

export interface RotationOptions {
  /** Stops after the current batch. */
  readonly signal?: AbortSignal;
  /** Called after every batch, which waits for it. */
  readonly onProgress?: (progress: RotationProgress) => void | Promise<void>;
  /** Of the audit event. */
  readonly actor?: string;
}

/** Not all rows have the newest key, so older keys must stay in place. */
export class RotationUnfinished extends Error {
  readonly code: "interrupted" | "running" | "older_key_in_use";
  /** Rows that this run has re-encrypted, by table. */
  readonly rewritten: Readonly<Record<string, number>>;
  constructor(code: RotationUnfinished["code"], message: string, rewritten: Record<string, number> = {}) {
    super(message);
    this.name = "RotationUnfinished";
    this.code = code;
    this.rewritten = rewritten;
  }
}

/**
 * Re-encrypts all rows of older keys with the newest key, and signs all rows with a new MAC key, in one pass: each batch is one
 * statement, which leaves out rows that have changed since they were read. When this has returned, older keys can be removed, provided
 * that every replica encrypts with the newest key. Safe to run while replicas serve, to interrupt and to repeat: it continues where it
 * was. Rows that no known key decrypts, and rows with an invalid MAC, stay unchanged.
 * @param deps.onUnreadable called for rows that no known key decrypts
 * @param deps.onUnaudited called if the audit event of an unfinished rotation could not be written
 * @returns number of re-encrypted rows, per table
 * @throws RotationUnfinished
 */
export async function rotateEncryptionKeys(
  database: Database,
  deps: {
    readonly encryption: Encryption;
    readonly macs: RowMacs;
    readonly onUnreadable: (table: string, error: DecryptionFailed) => void;
    readonly onUnaudited: (error: unknown) => void;
  },
  options: RotationOptions = {},
): Promise<Record<string, number>> {
  const pass = await takeRowPass(database, "rotate_keys");
  if (pass === undefined)
    throw new RotationUnfinished(
      "running",
      "another rotate-keys is running, or was killed less than two minutes ago",
    );
  const rewritten: Record<string, number> = Object.fromEntries(
    Object.keys(encryptedTables).map((table) => [table, 0]),
  );
  const newest = deps.encryption.newestKey();
  const audit = (more: { readonly unfinished?: true }): AuditEvent => ({
    action: "encryption_key.rotated",
    actor: options.actor,
    detail: { ...rewritten, newest, ...more },
  });
  try {
    const unfinished = unfinishedOf(pass, newest);
    const mac = await deps.macs.beginRotation(unfinished?.mac, newest);
    const target = JSON.stringify({ key: newest, ...(mac !== undefined && { mac }) });
    if (target !== pass.target) await pass.restart(target);
    const from = target === pass.target ? usable(pass.position) : undefined;
    await passUntilClean(
      { ...deps, ...options, database, pass, mac, rewritten, unreadable: new Set() },
      from,
    );
    // Keys that were added meanwhile are removed with the old ones.
    if (mac !== undefined) await deps.macs.reload();
    await database.write("audit_event.rotate_keys", async (tx) => {
      if (mac !== undefined) await deps.macs.endRotation(tx, mac);
      await pass.finish(tx);
      await writeAuditEvent(tx, audit({}));
    });
    if (mac !== undefined) await deps.macs.reload();
    return rewritten;
  } catch (error) {
    await pass.release().catch(() => {});
    if (Object.values(rewritten).some((count) => count > 0))
      await database
        .write("audit_event.rotate_keys", (tx) => writeAuditEvent(tx, audit({ unfinished: true })))
        .catch(deps.onUnaudited);
    if (error instanceof RowPassLost)
      throw new RotationUnfinished("running", "another rotate-keys has taken over from this one", rewritten);
    throw error;
  }
}

/** What `row_pass.target` holds. */
const unfinishedRotation = z.object({ key: z.string(), mac: z.string().optional() });

/** Undefined: not JSON. A damaged row must not prevent a rotation, which may be the remedy against whoever has damaged it. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function usable(position: Position | undefined): Position | undefined {
  const table = rotatedTables.find((name) => name === position?.table);
  if (table === undefined) return undefined;
  return [undefined, primaryKeyOf(table).length].includes(position?.after?.length) ? position : undefined;
}

function unfinishedOf({ target }: RowPass, newest: string): { readonly mac?: string } | undefined {
  if (target === undefined) return undefined;
  const found = unfinishedRotation.safeParse(parsed(target)).data;
  return found?.key === newest ? found : undefined;
}

interface Rotation extends RotationOptions {
  readonly database: Database;
  readonly encryption: Encryption;
  readonly macs: RowMacs;
  readonly onUnreadable: (table: string, error: DecryptionFailed) => void;
  /** Reported rows that no known key decrypts. */
  readonly unreadable: Set<string>;
  readonly pass: RowPass;
  /** The MAC key to sign with; undefined: rows are not bound yet. */
  readonly mac?: string | undefined;
  readonly rewritten: Record<string, number>;
}

/** Passes over all tables until a complete pass has found nothing to change. */
async function passUntilClean(rotation: Rotation, from: Position | undefined): Promise<void> {
  const { database, encryption, onProgress, rewritten } = rotation;
  let position = from;
  for (let passes = 1; ; passes++) {
    const step = passes === 1 ? "rotating" : "checking";
    const complete = position === undefined;
    const newest = encryption.newestKey();
    const estimates = await withRetries(rotation, () => estimateRows(database));
    let [changed, rows] = [0, 0];
    for (const [index, table] of rotatedTables.entries()) {
      if (position !== undefined && position.table !== table) continue;
      const later = rotatedTables.slice(index + 1).reduce((sum, name) => sum + (estimates.get(name) ?? 0), 0);
      changed += await passOver(table, position, rotation, async (lookedAt, ofTable) => {
        rows += lookedAt;
        const left = later + Math.max(0, (estimates.get(table) ?? 0) - ofTable);
        await onProgress?.({ step, table, rows, ...(estimates.size > 0 && { left }) });
      });
      position = undefined;
    }
    // A key service may have begun to use a newer version of its key.
    if (complete && changed === 0 && newest === encryption.newestKey()) return;
    if (passes === maxPasses)
      throw new RotationUnfinished(
        "older_key_in_use",
        "rows are still being written with an older key: a replica does not have the newest key first in encryption.keys",
        rewritten,
      );
  }
}

/** @returns how many rows needed a change, including those that changed too soon to be written */
async function passOver(
  table: RotatedTable,
  from: Position | undefined,
  rotation: Rotation,
  onBatch: (lookedAt: number, ofTable: number) => Promise<void>,
): Promise<number> {
  const { database, pass, rewritten } = rotation;
  const primaryKey = primaryKeyOf(table);
  const columns = [
    ...(isEncryptedTable(table) ? ["sealed", "key_id"] : []),
    ...(isBoundTable(table) ? [...boundColumns[table].columns, "mac"] : []),
  ];
  let { after, rows = 0 }: Partial<Position> = from ?? {};
  let [changed, limit]: [number, number | undefined] = [0, undefined];
  do {
    stopIfInterrupted(rotation);
    const needed = neededOf(table, rotation);
    const page = await withRetries(rotation, () =>
      database.read(`${table}.find_stale`, (db) =>
        readPage(db, { table, primaryKey, columns, needed, after, limit }),
      ),
    );
    const changes = (
      await mapAtOnce(page.rows, atOnce, (row) => withRetries(rotation, () => changeOf(table, row, rotation)))
    ).filter((change) => change !== undefined);
    rows += page.lookedAt;
    const position = { table, rows, after: page.after };
    const written = await withRetries(rotation, () =>
      database.write(`${table}.rotate_key`, async (tx) => {
        const rows = changes.length === 0 ? [] : await writeChanges(tx, table, primaryKey, changes);
        await pass.save(tx, position);
        return rows;
      }),
    );
    if (isEncryptedTable(table))
      rewritten[table] = (rewritten[table] ?? 0) + written.filter(({ encrypted }) => encrypted).length;
    changed += changes.length;
    ({ after, limit } = page);
    await onBatch(page.lookedAt, rows);
  } while (after !== undefined);
  return changed;
}

/** Rows with a ciphertext of an older key, or a MAC by one. */
function neededOf(table: RotatedTable, { encryption, mac }: Rotation): RawBuilder<unknown> {
  const stale = isEncryptedTable(table)
    ? sql`(sealed is not null and key_id is distinct from ${encryption.newestKey()})`
    : sql`false`;
  if (mac === undefined || !isBoundTable(table)) return stale;
  return sql`(${stale} or (mac is not null and not starts_with(mac, ${`${mac}.`})))`;
}

/** What to write; undefined: nothing can be done for this row. */
async function changeOf(table: RotatedTable, row: PageRow, rotation: Rotation): Promise<Change | undefined> {
  const { encryption, macs, mac } = rotation;
  const { sealed, key_id: keyId, ...bound } = row.values;
  if (mac !== undefined && isBoundTable(table)) {
    // The newest key-encryption key must not vouch for rows of an attacker who knows an older one, nor keep an old MAC key alive.
    const isNewMacKey = table === "signing_key" && row.primaryKey[0] === mac;
    if (!isNewMacKey && macs.isRejected(table, asBound(bound))) return undefined;
  }
  const signed =
    mac !== undefined && isBoundTable(table) ? macs.resign(mac, table, asBound(bound)) : undefined;
  let encrypted: { sealed: string; key_id: string } | undefined;
  if (isEncryptedTable(table) && typeof sealed === "string" && keyId !== encryption.newestKey()) {
    try {
      const value = await encryption.decrypt(table, row.primaryKey, sealed);
      encrypted = await encryption.encrypt(table, row.primaryKey, value);
    } catch (error) {
      if (!(error instanceof DecryptionFailed)) throw error;
      reportUnreadable(table, error, row, rotation);
    }
  }
  if (signed === undefined && encrypted === undefined) return undefined;
  return { row, ...encrypted, ...(signed !== undefined && { mac: signed }) };
}

/** Once for each row; of a damaged table, there may be millions. */
function reportUnreadable(
  table: RotatedTable,
  error: DecryptionFailed,
  { primaryKey }: PageRow,
  { unreadable, onUnreadable }: Rotation,
): void {
  const name = rowName(table, primaryKey);
  if (unreadable.has(name) || unreadable.size === maxReported) return;
  unreadable.add(name);
  onUnreadable(table, error);
}

/** Postgres' estimates of the rows of each table; empty before its first statistics. */
async function estimateRows(database: Database): Promise<ReadonlyMap<string, number>> {
  const { rows } = await database.read("rows.estimate", (db) =>
    sql<{ table: string; rows: number }>`
      select relname as "table", reltuples as rows from pg_class
      where relname in (${sql.join([...rotatedTables])}) and pg_table_is_visible(oid) and reltuples > 0`.execute(
      db,
    ),
  );
  return new Map(rows.map((row) => [row.table, row.rows]));
}

/** Tries again while the database or the key service does not answer, for some seconds. */
async function withRetries<T>(rotation: Rotation, work: () => Promise<T>): Promise<T> {
  for (const waitMs of retryAfterMs) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      stopIfInterrupted(rotation);
      await delay(waitMs);
    }
  }
  return work();
}

function stopIfInterrupted({ signal, rewritten }: Rotation): void {
  if (signal?.aborted)
    throw new RotationUnfinished("interrupted", "interrupted; run rotate-keys again to continue", rewritten);
}

function primaryKeyOf(table: RotatedTable): readonly string[] {
  if (isEncryptedTable(table)) return encryptedTables[table];
  return boundColumns[table].columns.slice(0, boundColumns[table].keys);
}

function isEncryptedTable(name: string): name is EncryptedTable {
  return name in encryptedTables;
}
