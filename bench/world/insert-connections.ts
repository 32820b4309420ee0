import pg from "pg";
import { createDatabase } from "../../src/store/database.ts";
import { encryption, type KeyEncryptionKeys } from "../../src/store/encryption/encryption.ts";

import { openPostgres } from "../../src/store/postgres/pool.ts";
import { rowMacs } from "../../src/store/row-macs.ts";
import { createLogger } from "../../src/telemetry/logger.ts";

/** One row of `upstream_token`, as far as it matters here. */
export interface ConnectionRow {
  readonly userId: string;
  readonly routeId: string;
  readonly upstream: string;
  readonly expiresAt: Date;
  /** What is encrypted of it. */
  readonly sealed: object;
  /** Likewise of the person's sign-in record. */
  readonly person: object;
}

/** Puts connections into the database many at a time: a hundred thousand through the store would take minutes. */
export async function insertConnections(
  url: string,
  keys: KeyEncryptionKeys,
): Promise<{ insert(row: ConnectionRow): Promise<void>; close(): Promise<void> }> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const withKeys = encryption(keys);
  const { encrypt } = withKeys;
  const logger = createLogger({ level: "silent" });
  const pool = openPostgres({ url, size: 1, timeoutMs: 30_000, name: "bench", logger });
  const database = createDatabase(pool, { timeoutMs: 30_000, close: () => pool.destroy() });
  // Rows without a MAC are rejected from the start in a fresh database.
  const macs = rowMacs(database, withKeys, { logger });
  await macs.ready();
  let writing: Promise<unknown> = Promise.resolve();
  let batch: { values: unknown[]; written: Promise<void> } | undefined;

  function add(values: unknown[]): Promise<void> {
    if (batch === undefined) {
      const { promise: written, resolve, reject } = Promise.withResolvers<void>();
      const mine = { values: [] as unknown[], written };
      batch = mine;
      setImmediate(() => {
        batch = undefined;
        writing = writing.then(() => write(mine.values)).then(resolve, reject);
      });
    }
    batch.values.push(...values);
    return batch.written;
  }
  async function write(values: readonly unknown[]): Promise<void> {
    const column = (index: number) => values.filter((_, at) => at % 11 === index);
    await client.query(
      `insert into upstream_token (user_id, route_id, upstream, sealed, key_id, expires_at, mac, refreshable)
       select *, true
       from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[])`,
      [0, 1, 2, 3, 4, 5, 6].map(column),
    );
    await client.query(
      `insert into sign_in_session (user_id, provider_id, subject, sealed, key_id, checked_at, mac)
       select person, split_part(person, '/', 1), split_part(person, '/', 2), sealed, key, checked, mac
       from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[])
         as one (person, sealed, key, checked, mac)
       on conflict do nothing`,
      [0, 7, 8, 9, 10].map(column),
    );
  }
  return {
    async insert({ userId, routeId, upstream, expiresAt, sealed: part, person }) {
      const { sealed, key_id } = await encrypt("upstream_token", [userId, routeId, upstream], part);
      const signIn = await encrypt("sign_in_session", [userId], person);
      const mac = macs.sign("upstream_token", {
        user_id: userId,
        route_id: routeId,
        upstream,
        expires_at: expiresAt,
        refresh_expires_at: null,
        refreshable: true,
      });
      const checkedAt = new Date();
      const [provider = "", subject = ""] = userId.split("/");
      const personMac = macs.sign("sign_in_session", {
        user_id: userId,
        provider_id: provider,
        subject,
        sid_name: null,
        checked_at: checkedAt,
      });
      await add([
        ...[userId, routeId, upstream, sealed, key_id, expiresAt, mac],
        ...[signIn.sealed, signIn.key_id, checkedAt, personMac],
      ]);
    },
    async close() {
      await client.end();
      await database.close();
    },
  };
}
