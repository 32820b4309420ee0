import { setTimeout as delay } from "node:timers/promises";
import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./database.ts";
import type { Tables } from "./tables.ts";

const dayMs = 86_400_000;
/** Partitions exist for at least this time ahead. */
const aheadMs = 7 * dayMs;
/** At most about this many partitions hold the events of the retention. */
const mostPartitions = 52;
/** How long a change of partitions may wait for a lock: those who come after it wait as long. */
const lockTimeout = "200ms";
const lockAttempts = 20;
/** Rows that one statement removes from a partition that is not dropped as a whole. */
const batchSize = 5_000;
const maxBatches = 200;
/** The partition with all events from before there were partitions, until it is divided (`boundFirstPartition`). */
const unbounded = "audit_event_first";
const byDefault = "audit_event_default";

/** A partition of `audit_event`, whose name has its limits: `audit_event_20261201_20261209`, `audit_event_until_20261201`. */
interface Partition {
  readonly name: string;
  /** Absent: from the beginning. */
  readonly from?: Date;
  /** Absent: without an end. */
  readonly to?: Date;
}

/** Start of the UTC day. */
export const dayOf = (at: Date): Date => new Date(Math.floor(at.getTime() / dayMs) * dayMs);

const daysAfter = (at: Date, days: number) => new Date(at.getTime() + days * dayMs);
const dayName = (at: Date) => at.toISOString().slice(0, 10).replaceAll("-", "");
const dayNamed = (name: string) =>
  new Date(`${name.slice(0, 4)}-${name.slice(4, 6)}-${name.slice(6)}T00:00:00Z`);
/** For statements that define partitions, which have no parameters. */
const literal = (at: Date) => sql.lit(at.toISOString());

/** Length of a new partition, in days. */
const partitionDays = (retentionDays: number): number =>
  Math.max(1, Math.ceil(retentionDays / mostPartitions));

/** The partitions of `audit_event` except the default one, in order of time. */
async function readPartitions(db: Kysely<Tables>): Promise<{ partitions: Partition[]; hasDefault: boolean }> {
  const { rows } = await sql<{ name: string }>`
    select relname as name from pg_inherits join pg_class on pg_class.oid = inhrelid
    where inhparent = 'audit_event'::regclass`.execute(db);
  const partitions = rows.flatMap(({ name }) => partitionNamed(name) ?? []);
  return {
    partitions: partitions.sort((a, b) => (a.from?.getTime() ?? 0) - (b.from?.getTime() ?? 0)),
    hasDefault: rows.some(({ name }) => name === byDefault),
  };
}

function partitionNamed(name: string): Partition | undefined {
  if (name === unbounded) return { name };
  const [, from, to] = /^audit_event_(until|\d{8})_(\d{8})$/.exec(name) ?? [];
  if (from === undefined || to === undefined) return undefined;
  return { name, to: dayNamed(to), ...(from !== "until" && { from: dayNamed(from) }) };
}

/** Creates partitions ahead and removes expired ones. */
export interface AuditPartitions {
  /** Of all but the default one, in order of time. */
  names(): Promise<string[]>;
  /** Creates missing partitions, so that there are some for the next week. */
  createAhead(now: Date, retentionDays: number): Promise<void>;
  /** Whether events from before `cut` (start of a day) can be removed. */
  hasExpired(cut: Date): Promise<boolean>;
  /**
   * Removes events from before `cut`: drops partitions that end before it, and deletes rows of the first and of the default one.
   * @returns number of deleted rows and dropped partitions
   */
  removeExpired(cut: Date): Promise<{ readonly rows: number; readonly partitions: number }>;
}

export function auditPartitions(database: Database): AuditPartitions {
  const read = () => database.read("audit_event.partitions", readPartitions);

  async function removeRows(table: string, cut: Date): Promise<number> {
    let removed = 0;
    for (let batch = 0; batch < maxBatches; batch++) {
      const { rows } = await database.write("audit_event.remove_expired", async (tx) => {
        await movable(tx);
        await sql`select set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true)`.execute(
          tx,
        );
        return sql`
          delete from ${sql.table(table)} where ctid = any(array(
            select ctid from ${sql.table(table)} where at < ${cut} order by at limit ${batchSize} for update skip locked))
          returning 1`.execute(tx);
      });
      removed += rows.length;
      if (rows.length < batchSize) break;
    }
    return removed;
  }

  /** Partitions in which single rows expire. */
  async function rowsExpireIn(): Promise<string[]> {
    const { partitions, hasDefault } = await read();
    const first = partitions.filter(({ from }) => from === undefined).map(({ name }) => name);
    return hasDefault ? [...first, byDefault] : first;
  }

  return {
    names: async () => (await read()).partitions.map(({ name }) => name),
    async createAhead(now, retentionDays) {
      const { partitions, hasDefault } = await read();
      let end = partitions.at(-1)?.to;
      // The first partition has no end yet, or all have been dropped while no replica ran.
      if (partitions.some(({ to }) => to === undefined)) return;
      end ??= dayOf(now);
      for (const until = new Date(now.getTime() + aheadMs); end < until; ) {
        const to = daysAfter(end, partitionDays(retentionDays));
        const partition = { name: `audit_event_${dayName(end)}_${dayName(to)}`, from: end, to };
        await withoutWaiting(() =>
          database.write("audit_event.create_partition", (tx) => createPartition(tx, partition, hasDefault)),
        );
        end = to;
      }
    },
    async hasExpired(cut) {
      const { partitions } = await read();
      if (partitions.some(({ to }) => to !== undefined && to <= cut)) return true;
      for (const table of await rowsExpireIn()) {
        const { rows } = await database.read("audit_event.find_expired", (db) =>
          sql`select 1 from ${sql.table(table)} where at < ${cut} order by at limit 1`.execute(db),
        );
        if (rows.length > 0) return true;
      }
      return false;
    },
    async removeExpired(cut) {
      const ended = (await read()).partitions.filter(({ to }) => to !== undefined && to <= cut);
      for (const { name } of ended)
        await withoutWaiting(() =>
          database.write("audit_event.drop_partition", async (tx) => {
            await limitLocks(tx);
            await sql`drop table ${sql.table(name)}`.execute(tx);
          }),
        );
      let rows = 0;
      for (const table of await rowsExpireIn()) rows += await removeRows(table, cut);
      return { rows, partitions: ended.length };
    },
  };
}

/** Built before it is attached: what waits for the lock on the default partition is only its attachment. */
async function createPartition(
  tx: Transaction<Tables>,
  { name, from, to }: Required<Partition>,
  hasDefault: boolean,
): Promise<void> {
  await limitLocks(tx);
  const table = sql.table(name);
  await sql`create table ${table} (like audit_event)`.execute(tx);
  await createIndexes(tx, name);
  await keepRows(tx, name);
  if (hasDefault) {
    await movable(tx);
    await sql`lock table audit_event_default in access exclusive mode`.execute(tx);
    await sql`
      with moved as (delete from audit_event_default where at >= ${from} and at < ${to} returning *)
      insert into ${table} select * from moved`.execute(tx);
  }
  await sql`
    alter table audit_event attach partition ${table} for values from (${literal(from)}) to (${literal(to)})`.execute(
    tx,
  );
}

async function createIndexes(tx: Transaction<Tables>, table: string): Promise<void> {
  await sql`alter table ${sql.table(table)} add primary key (id)`.execute(tx);
  await sql`create index ${sql.ref(`${table}_at`)} on ${sql.table(table)} (at)`.execute(tx);
  await sql`create index ${sql.ref(`${table}_action`)} on ${sql.table(table)} (action, id)`.execute(tx);
}

/** See migration 0022. */
async function keepRows(db: Kysely<Tables>, table: string): Promise<void> {
  await sql`
    create trigger audit_event_kept before delete on ${sql.table(table)}
    for each row execute function audit_event_kept()`.execute(db);
}

const movable = (tx: Transaction<Tables>) =>
  sql`select set_config('envoy_mcp_auth.audit_events', 'movable', true)`.execute(tx);

const limitLocks = (tx: Transaction<Tables>) =>
  sql`select set_config('lock_timeout', ${lockTimeout}, true)`.execute(tx);

/** Tries again while others hold a lock, and lets those pass that wait behind it. */
async function withoutWaiting(change: () => Promise<unknown>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await change();
      return;
    } catch (error) {
      if (!isLockTimeout(error) || attempt === lockAttempts) throw error;
      await delay(100 + Math.random() * 400);
    }
  }
}

function isLockTimeout(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "55P03";
}

/** Whether `boundFirstPartition` has something to do. */
export async function isFirstPartitionUnbounded(db: Kysely<Tables>): Promise<boolean> {
  const { rows } = await sql`
    select 1 from pg_inherits join pg_class on pg_class.oid = inhrelid
    where inhparent = to_regclass('audit_event') and relname = ${unbounded}`.execute(db);
  return rows.length > 0;
}

/**
 * Gives the first partition, which a migration of a table with rows leaves without an end, an end about a week ahead, so that later
 * events have partitions of their own. Takes as long as a scan of the table, without blocking reads or writes; only the first and last
 * step need a lock, for a moment. Can be interrupted: the next call continues.
 * @param db one connection, without a statement timeout
 */
export async function boundFirstPartition(db: Kysely<Tables>, now: Date): Promise<void> {
  if (!(await isFirstPartitionUnbounded(db))) return;
  const first = sql.table(unbounded);
  const { rows } = await sql<{ name: string }>`
    select conname as name from pg_constraint
    where conrelid = ${unbounded}::regclass and conname like 'audit\\_event\\_until\\_%'`.execute(db);
  let end: Date | undefined;
  for (const { name } of rows) {
    end = partitionNamed(name)?.to;
    if (end !== undefined && end > daysAfter(now, 2)) continue;
    // An interrupted call has left it behind: soon, inserts would fail.
    await withoutWaiting(() => sql`alter table ${first} drop constraint ${sql.ref(name)}`.execute(db));
    end = undefined;
  }
  const to = end ?? (await firstEnd(db, now));
  const name = `audit_event_until_${dayName(to)}`;
  await sql`select set_config('lock_timeout', ${lockTimeout}, false)`.execute(db);
  try {
    if (end === undefined)
      await withoutWaiting(() =>
        sql`alter table ${first} add constraint ${sql.ref(name)} check (at < ${literal(to)}) not valid`.execute(
          db,
        ),
      );
    await withoutWaiting(() => sql`alter table ${first} validate constraint ${sql.ref(name)}`.execute(db));
    await withoutWaiting(() =>
      db.transaction().execute(async (tx) => {
        await sql`alter table audit_event detach partition ${first}`.execute(tx);
        await sql`alter table ${first} rename to ${sql.ref(name)}`.execute(tx);
        // No scan: the constraint has been validated.
        await sql`
          alter table audit_event attach partition ${sql.table(name)}
          for values from (minvalue) to (${literal(to)})`.execute(tx);
        await sql`create table audit_event_default partition of audit_event default`.execute(tx);
        await createIndexes(tx, byDefault);
        await keepRows(tx, byDefault);
      }),
    );
  } finally {
    await sql`select set_config('lock_timeout', '0', false)`.execute(db);
  }
}

/** A week ahead, and after every event. */
async function firstEnd(db: Kysely<Tables>, now: Date): Promise<Date> {
  const { rows } = await sql<{ at: Date | null }>`
    select at from audit_event_first order by at desc limit 1`.execute(db);
  const last = rows[0]?.at ?? now;
  return daysAfter(dayOf(last > now ? last : now), 9);
}
