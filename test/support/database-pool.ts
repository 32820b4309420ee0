import { randomBytes } from "node:crypto";
import pg from "pg";
import { migrate } from "../../src/store/migrate.ts";

/*
 * Creating a database copies eight megabytes and dropping one waits for a checkpoint; a thousand tests need one each. So a returned
 * migrated database is emptied and renamed, and any test file can reuse it.
 */

/** Database of the shared Postgres with all migrations and no rows. There are no open connections to it, because it is copied. */
const template = "migrated";

/**
 * What a test may have changed in addition to rows: an emptied database is reused only if it equals the template's. A copy has the
 * template's object ids and the transactions that wrote each row of a catalog, which are read ten times faster than definitions.
 */
const shape = `
with parts as (
  select concat_ws('|', 'class', oid, xmin) as part from pg_class where oid >= 16384
  union all select concat_ws('|', 'attribute', attrelid, attnum, xmin) from pg_attribute where attrelid >= 16384
  union all select concat_ws('|', 'default', oid, xmin) from pg_attrdef
  union all select concat_ws('|', 'index', indexrelid, xmin) from pg_index where indexrelid >= 16384
  union all select concat_ws('|', 'constraint', oid, xmin) from pg_constraint where oid >= 16384
  union all select concat_ws('|', 'sequence', seqrelid, xmin) from pg_sequence
  union all select concat_ws('|', 'trigger', oid, xmin) from pg_trigger
  union all select concat_ws('|', 'rule', oid, xmin) from pg_rewrite where oid >= 16384
  union all select concat_ws('|', 'function', oid, xmin) from pg_proc where oid >= 16384
  union all select concat_ws('|', 'type', oid, xmin) from pg_type where oid >= 16384
  union all select concat_ws('|', 'schema', oid, xmin) from pg_namespace where nspname !~ '^pg_(toast_)?temp'
  union all select concat_ws('|', 'rights', oid, xmin) from pg_default_acl
  union all select concat_ws('|', 'event trigger', oid, xmin) from pg_event_trigger
  union all select concat_ws('|', 'policy', oid, xmin) from pg_policy
  union all select concat_ws('|', 'extension', oid, xmin) from pg_extension
  union all select concat_ws('|', 'publication', oid, xmin) from pg_publication
  union all select concat_ws('|', 'database', d.datacl, d.datconnlimit, s.setconfig)
  from pg_database d left join pg_db_role_setting s on s.setdatabase = d.oid where datname = current_database()
  union all select concat_ws('|', name, timestamp) from kysely_migration
  union all select concat_ws('|', id, is_locked) from kysely_migration_lock
)
select md5(string_agg(part, E'\\n' order by part)) as shape from parts`;

/** Deletes the rows of all tables except the migrations' own, and resets the sequences. Truncating takes ten times as long. */
const emptied = `
do $$
declare one record;
begin
  set local session_replication_role = replica;
  for one in select oid::regclass as name from pg_class
    where relnamespace = 'public'::regnamespace and relkind = 'r' and relname not like 'kysely\\_%'
  loop execute format('delete from %s', one.name); end loop;
  for one in select seqrelid::regclass as name, seqstart from pg_sequence
  loop perform setval(one.name, one.seqstart, false); end loop;
end $$`;

/** Creates the template and the list of free databases, once per run. */
export async function startDatabasePool(serverUrl: string): Promise<void> {
  await connected(serverUrl, async (server) => {
    await server.query(`create database ${template}`);
    await migrate({ url: urlOf(serverUrl, template) });
    const { shape } = await connected(urlOf(serverUrl, template), shapeOf);
    await server.query("create table pool_shape as select $1::text as shape", [shape]);
    await server.query("create table pool_free (name text primary key)");
  });
}

/** Name of a migrated database without rows, the caller's own until `giveDatabaseBack`. */
export async function takeDatabase(serverUrl: string): Promise<string> {
  return administering(serverUrl, async (server) => {
    const { rows } = await server.query<{ name: string }>(
      "delete from pool_free where name = (select name from pool_free limit 1 for update skip locked) returning name",
    );
    if (rows[0]) return rows[0].name;
    const name = freshName();
    // Copied by its log: a copy of the files waits for two checkpoints of all other writes.
    await server.query(`create database ${name} template ${template} strategy wal_log`);
    return name;
  });
}

/** Ends all its connections. It is no longer accessible as `name`, and is dropped if more than its rows was changed. */
export async function giveDatabaseBack(serverUrl: string, name: string): Promise<void> {
  await administering(serverUrl, async (server) => {
    const next = freshName();
    try {
      await server.query("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1", [
        name,
      ]);
      await server.query(`alter database ${name} rename to ${next}`);
    } catch {
      // A client has reconnected at once.
      await dropDatabase(server, name);
      return;
    }
    const same = await connected(urlOf(serverUrl, next), async (database) => {
      const { rows } = await server.query<{ shape: string }>("select shape from pool_shape");
      if ((await shapeOf(database)).shape !== rows[0]?.shape) return false;
      await database.query(emptied);
      return true;
    }).catch(() => false);
    if (same) await server.query("insert into pool_free values ($1)", [next]);
    else await dropDatabase(server, next);
  });
}

export const dropDatabase = (server: pg.Client, name: string) =>
  server.query(`drop database if exists ${name} with (force)`);

export const freshName = () => `test_${randomBytes(6).toString("hex")}`;

/** The URL of database `name` on the server of `serverUrl`. */
export function urlOf(serverUrl: string, name: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  return url.href;
}

/** Runs `work` on a separate connection. */
export async function connected<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const administrators = new Map<string, Promise<pg.Client>>();

/** Runs `work` on this process's connection to the server, which is kept until the process ends. */
async function administering<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  let opening = administrators.get(url);
  if (!opening) {
    const client = new pg.Client({ connectionString: url });
    const forget = () => void administrators.delete(url);
    client.on("error", forget).on("end", forget);
    opening = client.connect().then(() => client);
    opening.catch(forget);
    administrators.set(url, opening);
  }
  return work(await opening);
}

async function shapeOf(database: pg.Client): Promise<{ shape: string | undefined }> {
  return { shape: (await database.query<{ shape: string }>(shape)).rows[0]?.shape };
}
