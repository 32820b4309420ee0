import type pg from "pg";

/**
 * Fills a table in one transaction, without its indexes and constraints, which are made again at the end: sorting them once takes a
 * fraction of the time of inserting each row into every index. A table that its own transaction empties needs no write-ahead log.
 */
export async function withoutIndexes(
  client: pg.Client,
  table: string,
  fill: () => Promise<void>,
): Promise<void> {
  const constraints = await client.query<{ name: string; definition: string }>(
    `select conname as name, pg_get_constraintdef(oid) as definition from pg_constraint
     where conrelid = $1::regclass and contype in ('p', 'u') order by contype`,
    [table],
  );
  const indexes = await client.query<{ name: string; definition: string }>(
    `select c.relname as name, pg_get_indexdef(i.indexrelid) as definition
     from pg_index i join pg_class c on c.oid = i.indexrelid
     where i.indrelid = $1::regclass
       and not exists (select from pg_constraint where conindid = i.indexrelid)`,
    [table],
  );
  await client.query("begin");
  await client.query(`truncate "${table}"`);
  for (const { name } of constraints.rows)
    await client.query(`alter table "${table}" drop constraint "${name}"`);
  for (const { name } of indexes.rows) await client.query(`drop index "${name}"`);
  await fill();
  for (const { name, definition } of constraints.rows)
    await client.query(`alter table "${table}" add constraint "${name}" ${definition}`);
  for (const { definition } of indexes.rows) await client.query(definition);
  await client.query("commit");
}
