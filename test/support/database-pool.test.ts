import { afterAll, beforeAll, expect, it } from "vitest";
import { connected, giveDatabaseBack, startDatabasePool, takeDatabase, urlOf } from "./database-pool.ts";
import { type PostgresServer, startPostgres } from "./start-postgres.ts";

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
  await startDatabasePool(server.url);
});
afterAll(() => server.close());

const run = (name: string, statement: string) =>
  connected(urlOf(server.url, name), async (client) => (await client.query(statement)).rows);
/** What identifies a database regardless of its name. */
const idOf = async (name: string) =>
  (await run(name, "select oid from pg_database where datname = current_database()"))[0].oid;

it("a returned database is reused, without rows, with reset sequences, and inaccessible to its previous user", async () => {
  const name = await takeDatabase(server.url);
  const id = await idOf(name);
  await run(name, "insert into used_value (kind, name, expires_at) values ('k', 'n', now())");
  await run(name, "insert into audit_event (action) values ('a')");
  await run(name, "select nextval('upstream_token_version')");
  await giveDatabaseBack(server.url, name);
  await expect(run(name, "select 1")).rejects.toThrow("does not exist");
  const next = await takeDatabase(server.url);
  expect(await idOf(next)).toBe(id);
  expect(await run(next, "select * from used_value")).toEqual([]);
  expect(await run(next, "select nextval('upstream_token_version') as version")).toEqual([{ version: "1" }]);
  expect(await run(next, "insert into audit_event (action) values ('a') returning id")).toEqual([
    { id: "1" },
  ]);
  expect(await idOf(await takeDatabase(server.url)), "another while it is taken").not.toBe(id);
});

it.each([
  "create table backup as select * from used_value",
  "drop table used_value",
  "alter table used_value alter column expires_at drop not null",
  "create function f() returns int language sql as 'select 1'",
  "do $$ begin execute format('alter database %I set work_mem = 1000', current_database()); end $$",
  "delete from kysely_migration",
])("a database in which more than rows was changed is not reused: %s", async (statement) => {
  const name = await takeDatabase(server.url);
  const id = await idOf(name);
  await run(name, statement);
  await giveDatabaseBack(server.url, name);
  expect(await run("postgres", `select datname from pg_database where oid = ${id}`)).toEqual([]);
});
