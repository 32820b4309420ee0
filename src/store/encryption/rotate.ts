import { sql } from "kysely";
import { writeAuditEvent } from "../audit-events.ts";
import type { Database } from "../database.ts";
import { DecryptionFailed } from "../errors.ts";
import type { Encryption } from "./encryption.ts";

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

const batchSize = 100;

/**
 * Re-encrypts all rows of older keys with the newest key. A row is written only if its ciphertext has not changed since it was read,
 * so that concurrent writes are not lost. When this has returned, older keys can be removed. Safe to run while replicas serve, to
 * interrupt and to repeat.
 * @param onUnreadable called for rows that no known key decrypts; they stay unchanged
 * @returns number of rewritten rows, per table
 */
export async function rotateEncryptionKeys(
  database: Database,
  { encrypt, decrypt, newestKey }: Encryption,
  onUnreadable: (table: string, error: DecryptionFailed) => void,
): Promise<Record<string, number>> {
  const rewritten: Record<string, number> = {};
  for (const [name, primaryKey] of Object.entries(encryptedTables)) {
    const table = isEncryptedTable(name) ? name : undefined;
    if (table === undefined) continue;
    rewritten[table] = 0;
    const keyColumns = sql.join(primaryKey.map((column) => sql.ref(column)));
    let after: readonly string[] | undefined;
    do {
      const { rows } = await database.read(`${table}.find_stale`, (db) =>
        sql<{ primary_key: string[]; sealed: string }>`
          select jsonb_build_array(${keyColumns}) as primary_key, sealed
          from ${sql.table(table)}
          where key_id <> ${newestKey()} and sealed is not null
          ${after === undefined ? sql`` : sql`and (${keyColumns}) > (${sql.join(after)})`}
          order by ${keyColumns} limit ${batchSize}`.execute(db),
      );
      for (const row of rows) {
        try {
          const fresh = await encrypt(
            table,
            row.primary_key,
            await decrypt(table, row.primary_key, row.sealed),
          );
          const { rows: written } = await database.write(`${table}.rotate_key`, (tx) =>
            sql`
              update ${sql.table(table)} set sealed = ${fresh.sealed}, key_id = ${fresh.key_id}
              where (${keyColumns}) = (${sql.join(row.primary_key)}) and sealed = ${row.sealed}
              returning 1`.execute(tx),
          );
          rewritten[table] += written.length;
        } catch (error) {
          if (!(error instanceof DecryptionFailed)) throw error;
          onUnreadable(table, error);
        }
      }
      after = rows.length === batchSize ? rows.at(-1)?.primary_key : undefined;
    } while (after !== undefined);
  }
  await database.write("audit_event.rotate_keys", (tx) =>
    writeAuditEvent(tx, {
      action: "encryption_key.rotated",
      detail: { ...rewritten, newest: newestKey() },
    }),
  );
  return rewritten;
}

function isEncryptedTable(name: string): name is keyof typeof encryptedTables {
  return name in encryptedTables;
}
