import { type RawBuilder, sql, type Transaction } from "kysely";
import type { Logger } from "pino";
import type { Database } from "./database.ts";
import type { Indexes } from "./indexes.ts";
import type { Tables } from "./tables.ts";

/** Rows that one statement removes. */
const batchSize = 500;
/** Batches of one kind of rows in one round. */
const maxBatches = 200;
/** No batch begins after this time of a round, ms. */
const maxMs = 60_000;
const dayMs = 86_400_000;
/** A person's record is kept for this time after the last sign-in or recheck. */
const keptDays = 90;
/** When a record that is in use is looked at again. */
const againDays = 7;

/** Removes the next batch of one kind of expired rows; `full`: there may be more. */
type RemoveBatch = (size: number) => Promise<{ readonly removed: number; readonly full: boolean }>;

interface Kind {
  readonly table: keyof Tables;
  /** The index that finds them, if it is built online. */
  readonly index?: string;
  readonly removeBatch: RemoveBatch;
}

export interface RoundOptions {
  readonly logger: Pick<Logger, "info">;
  readonly batchSize?: number;
  readonly maxBatches?: number;
}

/**
 * Deletes expired rows, so that no table grows without bound (audit events: audit-partitions.ts). Every kind is found through an index,
 * in batches that lock few rows briefly and skip rows in use. The work of a round is limited in batches and time; what is left is
 * removed in the next rounds.
 * @returns number of deleted rows, per table
 * @throws the first error; the other kinds are removed nevertheless
 */
export async function removeExpired(
  database: Database,
  indexes: Pick<Indexes, "built">,
  now: Date,
  options: RoundOptions,
): Promise<Record<string, number>> {
  const kinds = expiredKinds(database, database.clock.toDatabase(now));
  const removed: Record<string, number> = Object.fromEntries(kinds.map(({ table }) => [table, 0]));
  const errors: unknown[] = [];
  const stopAt = performance.now() + maxMs;
  // Without its index, a kind would be searched in the whole table.
  let left: Kind[] = [];
  for (const kind of kinds)
    if (kind.index === undefined || (await indexes.built(kind.index))) left.push(kind);
  // In turn, so that many rows of one kind do not keep the others from being removed.
  for (let batch = 0; left.length > 0 && batch < (options.maxBatches ?? maxBatches); batch++) {
    const unfinished: Kind[] = [];
    for (const kind of left) {
      if (performance.now() > stopAt) {
        unfinished.push(kind);
        continue;
      }
      try {
        const result = await kind.removeBatch(options.batchSize ?? batchSize);
        removed[kind.table] = (removed[kind.table] ?? 0) + result.removed;
        if (result.full) unfinished.push(kind);
      } catch (error) {
        errors.push(error);
      }
    }
    left = unfinished;
    if (performance.now() > stopAt) break;
  }
  const tables = [...new Set(left.map(({ table }) => table))];
  if (tables.length > 0)
    options.logger.info({ tables }, "one round does not remove all expired rows; the next ones continue");
  if (errors.length > 0) throw errors[0];
  return removed;
}

/** Every kind of expired rows, each with a condition that one index covers (migration 0017). */
function expiredKinds(database: Database, at: Date): readonly Kind[] {
  const ago = (days: number) => new Date(at.getTime() - days * dayMs);
  const before = (
    table: keyof Tables,
    column: string,
    limit: Date,
    { index, and }: { readonly index?: string; readonly and?: RawBuilder<unknown> } = {},
  ): Kind => ({
    ...{ table, index },
    removeBatch: rowsBefore(database, { table, column, limit, and }),
  });
  const unregistered = sql`client_id is null`;
  const unregisteredIndex = "client_registration_lease_until";
  return [
    // Kept for another day: an upstream's clock may be behind, and the owner sees that the connection has expired.
    before("upstream_token", "expires_at", ago(1), {
      index: "upstream_token_ended",
      and: sql`not refreshable`,
    }),
    before("upstream_token", "refresh_expires_at", ago(1), { index: "upstream_token_refresh_ended" }),
    before("upstream_demand", "demanded_at", ago(30), { index: "upstream_demand_demanded_at" }),
    before("pending_authorization", "expires_at", at),
    // An expired secret can be rotated (RFC 7592), or its clock may be behind.
    before("client_registration", "secret_expires_at", ago(30), {
      index: "client_registration_secret_expires_at",
    }),
    before("client_registration", "lease_until", at, { index: unregisteredIndex, and: unregistered }),
    {
      ...{ table: "client_registration", index: unregisteredIndex },
      removeBatch: rowsWhere(
        database,
        "client_registration",
        () => sql`${unregistered} and lease_until is null order by lease_until`,
      ),
    },
    before("authorization_server_record", "expires_at", at),
    before("delegation", "expires_at", at, { index: "delegation_expires_at" }),
    before("granted_member", "expires_at", at),
    before("browser_session", "expires_at", at),
    { table: "sign_in_session", index: "sign_in_session_kept_at", removeBatch: expiredPeople(database, at) },
    before("aggregate_session", "expires_at", at),
    before("replica_message", "expires_at", at),
    before("elicitation_session", "expires_at", at),
    before("admin_code", "expires_at", at),
    before("admin_session", "expires_at", at),
    before("replica", "seen_at", ago(1)),
    before("used_value", "expires_at", at),
    before("signing_key", "expires_at", at),
  ];
}

/** Removes the rows whose `column` is before `limit`, oldest first. */
function rowsBefore(
  database: Database,
  which: {
    readonly table: keyof Tables;
    readonly column: string;
    readonly limit: Date;
    readonly and?: RawBuilder<unknown>;
  },
): RemoveBatch {
  const column = sql.ref(which.column);
  let from: Date | undefined;
  return rowsWhere(
    database,
    which.table,
    () => sql`
      ${column} < ${which.limit}
      ${from === undefined ? sql`` : sql`and ${column} >= ${from}`}
      ${which.and === undefined ? sql`` : sql`and ${which.and}`}
      order by ${column}`,
    {
      returning: column,
      // The next batch starts where this one ended: until a vacuum, the index still has the entries of deleted rows.
      onRemoved: (at) => {
        from = at;
      },
    },
  );
}

/** @param condition what follows `where`; asked again for each batch */
function rowsWhere(
  database: Database,
  table: keyof Tables,
  condition: () => RawBuilder<unknown>,
  latest?: { readonly returning: RawBuilder<unknown>; readonly onRemoved: (at: Date) => void },
): RemoveBatch {
  return (size) =>
    database.write(`${table}.remove_expired`, async (tx) => {
      await readInOrder(tx);
      const { rows } = await sql<{ at: Date | null }>`
        delete from ${sql.table(table)}
        where ctid = any(array(
          select ctid from ${sql.table(table)} where ${condition()} limit ${size} for update skip locked))
        returning ${latest?.returning ?? sql`null`} as at`.execute(tx);
      const times = rows.flatMap(({ at }) => at?.getTime() ?? []);
      if (times.length > 0) latest?.onRemoved(new Date(Math.max(...times)));
      return { removed: rows.length, full: rows.length === size };
    });
}

/**
 * Makes the planner read an index in its order, for the rest of the transaction: when it expects few rows and there are millions, it
 * would sort them all for each batch.
 */
async function readInOrder(tx: Transaction<Tables>): Promise<void> {
  await sql`select set_config('enable_sort', 'off', true), set_config('jit', 'off', true)`.execute(tx);
}

/**
 * Removes sign-in records that have not been checked for 90 days, unless sessions, grants or delegations depend on them. Those that are
 * kept are looked at again a week later, and not in every round: `kept_at` moves them on in the index, for all replicas.
 */
function expiredPeople(database: Database, at: Date): RemoveBatch {
  const limit = new Date(at.getTime() - keptDays * dayMs);
  const keptAt = new Date(limit.getTime() + againDays * dayMs);
  const lastNeeded = sql`greatest(checked_at, kept_at)`;
  let from: Date | undefined;
  return (size) =>
    database.write("sign_in_session.remove_expired", async (tx) => {
      await readInOrder(tx);
      const { rows: found } = await sql<{ user_id: string; at: Date }>`
        select user_id, ${lastNeeded} as at from sign_in_session
        where ${lastNeeded} < ${limit} ${from === undefined ? sql`` : sql`and ${lastNeeded} >= ${from}`}
        order by ${lastNeeded} limit ${size} for update skip locked`.execute(tx);
      if (found.length === 0) return { removed: 0, full: false };
      const users = sql.join(found.map((row) => row.user_id));
      // A statement of its own, which sees what was stored before the records were locked. Each of the questions asks for one row, so
      // that it is answered by an index whatever the planner expects.
      const { rows: removed } = await sql`
        delete from sign_in_session
        where user_id in (${users})
          and (
            select 1 from browser_session
            where browser_session.user_id = sign_in_session.user_id and browser_session.expires_at > ${at}
            limit 1) is null
          and (
            select 1 from authorization_server_record
            where model = 'Grant' and authorization_server_record.user_id = sign_in_session.user_id
              and (authorization_server_record.expires_at is null or authorization_server_record.expires_at > ${at})
            limit 1) is null
          and (
            select 1 from delegation
            where owner_id = sign_in_session.user_id and delegated_at is not null and delegation.expires_at > ${at}
            limit 1) is null
        returning user_id`.execute(tx);
      await sql`update sign_in_session set kept_at = ${keptAt} where user_id in (${users})`.execute(tx);
      from = found.at(-1)?.at;
      return { removed: removed.length, full: found.length === size };
    });
}
