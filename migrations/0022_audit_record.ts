import { type Kysely, sql } from "kysely";

/** Days until the first partition ends, so that nothing has to be changed before a replica maintains the partitions. */
const firstDays = 9;

/**
 * The audit trail as a chain of signed batches, and `audit_event` in partitions by time. Old replicas keep inserting and reading.
 *
 * The table becomes the first partition. One with rows covers all times at first, because proving that it does not takes a scan; a
 * replica divides it online (src/store/audit-partitions.ts). There are no indexes on the parent: each partition has its own.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("audit_batch")
    // Two writers cannot both append.
    .addColumn("number", "bigint", (c) => c.primaryKey())
    .addColumn("first_id", "bigint", (c) => c.notNull())
    .addColumn("last_id", "bigint", (c) => c.notNull())
    .addColumn("first_at", "timestamptz", (c) => c.notNull())
    .addColumn("last_at", "timestamptz", (c) => c.notNull())
    // Ids of the events in the order of the chain, and their SHA-256 hashes, 32 bytes each.
    .addColumn("ids", "jsonb", (c) => c.notNull())
    .addColumn("hashes", "bytea", (c) => c.notNull())
    .addColumn("previous", "text", (c) => c.notNull())
    .addColumn("hash", "text", (c) => c.notNull())
    // A compact JWS.
    .addColumn("checkpoint", "text", (c) => c.notNull())
    .execute();
  // The batches of a range of ids.
  await sql`
    create index audit_batch_ids on audit_batch using gist (int8range(first_id, last_id, '[]'))`.execute(db);
  await db.schema.createIndex("audit_batch_last_at").on("audit_batch").column("last_at").execute();
  // How far each destination of the export has got.
  await db.schema
    .createTable("audit_export")
    .addColumn("destination", "text", (c) => c.primaryKey())
    .addColumn("batch", "bigint", (c) => c.notNull())
    .addColumn("hash", "text", (c) => c.notNull())
    .addColumn("updated_at", "timestamptz", (c) => c.notNull().defaultTo(sql`now()`))
    .execute();
  await createTrigger(db);
  await partition(db);
}

/**
 * Old replicas remove expired events by `ctid`, which is unique in a partition only: without this, they would remove other events, too.
 * Later partitions are dropped as a whole.
 */
async function createTrigger(db: Kysely<unknown>): Promise<void> {
  await sql`
    create function audit_event_kept() returns trigger language plpgsql as $$
    begin
      if current_setting('envoy_mcp_auth.audit_events', true) = 'movable' then return old; end if;
      return null;
    end $$`.execute(db);
}

async function partition(db: Kysely<unknown>): Promise<void> {
  const { rows } = await sql<{ last: string; called: boolean; filled: boolean; end: string }>`
    select last_value as last, is_called as called, exists (select from audit_event) as filled,
      to_char(now() at time zone 'UTC' + ${firstDays} * interval '1 day', 'YYYYMMDD') as end
    from audit_event_id_seq`.execute(db);
  const [{ last, called, filled, end } = { last: "1", called: false, filled: true, end: "" }] = rows;
  const first = filled ? "audit_event_first" : `audit_event_until_${end}`;
  const to = filled ? sql`maxvalue` : sql.lit(`${end} 00:00:00+00`);
  await sql`alter table audit_event rename to ${sql.table(first)}`.execute(db);
  await sql`alter table ${sql.table(first)} alter column id drop identity`.execute(db);
  await sql`create sequence audit_event_id_seq as bigint`.execute(db);
  await sql`select setval('audit_event_id_seq', ${last}::bigint, ${called})`.execute(db);
  await sql`create table audit_event (like ${sql.table(first)} including defaults) partition by range (at)`.execute(
    db,
  );
  await sql`alter table audit_event alter column id set default nextval('audit_event_id_seq')`.execute(db);
  await sql`alter sequence audit_event_id_seq owned by audit_event.id`.execute(db);
  // No scan: the column is not null, and that is all that this partition requires.
  await sql`
    alter table audit_event attach partition ${sql.table(first)} for values from (minvalue) to (${to})`.execute(
    db,
  );
  if (!filled) await createDefault(db);
}

/** Takes what no partition covers, so that an insert never fails. */
async function createDefault(db: Kysely<unknown>): Promise<void> {
  await sql`create table audit_event_default partition of audit_event default`.execute(db);
  await sql`alter table audit_event_default add primary key (id)`.execute(db);
  await sql`create index audit_event_default_at on audit_event_default (at)`.execute(db);
  await sql`create index audit_event_default_action on audit_event_default (action, id)`.execute(db);
  await sql`
    create trigger audit_event_kept before delete on audit_event_default
    for each row execute function audit_event_kept()`.execute(db);
}
