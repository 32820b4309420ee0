import pg from "pg";
import { encryption } from "../../src/store/encryption.ts";
import type { KeyEncryptionKeys } from "../../src/store/key-encryption-keys.ts";

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
  const { seal } = encryption(keys);
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
    const column = (index: number) => values.filter((_, at) => at % 8 === index);
    await client.query(
      `insert into upstream_token (user_id, route_id, upstream, sealed, key_id, expires_at, refreshable)
       select *, true from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])`,
      [0, 1, 2, 3, 4, 5].map(column),
    );
    await client.query(
      `insert into sign_in_session (user_id, provider_id, subject, sealed, key_id, checked_at)
       select person, split_part(person, '/', 1), split_part(person, '/', 2), sealed, key, now()
       from unnest($1::text[], $2::text[], $3::text[]) as one (person, sealed, key)
       on conflict do nothing`,
      [0, 6, 7].map(column),
    );
  }
  return {
    async insert({ userId, routeId, upstream, expiresAt, sealed: part, person }) {
      const { sealed, key_id } = await seal("upstream_token", [userId, routeId, upstream], part);
      const signIn = await seal("sign_in_session", [userId], person);
      await add([userId, routeId, upstream, sealed, key_id, expiresAt, signIn.sealed, signIn.key_id]);
    },
    close: () => client.end(),
  };
}
