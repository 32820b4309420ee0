import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import pg from "pg";
import { expect, it } from "vitest";
import { migrate } from "../../src/store/migrate.ts";
import { openStore } from "../../src/store/open-store.ts";
import { createEmbeddedTestDatabase } from "../support/embedded-database.ts";
import { backends, logger, makeKeys } from "./backends.ts";
import { migrateTo } from "./migrate-to.ts";

const names = (await readdir(join(import.meta.dirname, "../../migrations"))).map((file) =>
  file.replace(/\.ts$/, ""),
);

it("migrates an empty Postgres database once, and does not change a migrated one", async () => {
  const backend = await backends.postgres({ empty: true });
  try {
    expect(await migrate({ url: backend.url })).toEqual(names);
    expect(await migrate({ url: backend.url })).toEqual([]);
    await (await backend.open()).close();
  } finally {
    await backend.close();
  }
});

it("migrates an empty embedded database once, with its indexes, and does not change a migrated one", async () => {
  const dir = await mkdtemp(join(tmpdir(), "store-"));
  try {
    const indexes = { test_index: "on upstream_token (route_id)" };
    expect(await migrate({ dir }, { indexes })).toEqual(names);
    expect(await migrate({ dir }, { indexes })).toEqual([]);
    const pglite = await PGlite.create({ dataDir: join(dir, "database") });
    const { rows } = await pglite.query(
      "select indisvalid from pg_index where indexrelid = 'test_index'::regclass",
    );
    await pglite.close();
    expect(rows).toEqual([{ indisvalid: true }]);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

it("lets replicas start together on an empty Postgres database: one migrates, the others wait", async () => {
  const backend = await backends.postgres({ empty: true });
  try {
    const ran = await Promise.all(Array.from({ length: 4 }, () => migrate({ url: backend.url })));
    expect(ran.filter((migrations) => migrations.length > 0)).toEqual([names]);
  } finally {
    await backend.close();
  }
});

it("starts on a database that a newer version has migrated, so that old replicas can restart", async () => {
  const backend = await backends.postgres({ empty: true });
  try {
    await migrate({ url: backend.url });
    await backend.query(`insert into kysely_migration values ('9999_newer', '${new Date().toISOString()}')`);
    expect(await migrate({ url: backend.url })).toEqual([]);
    await (await backend.open()).close();
  } finally {
    await backend.close();
  }
});

it("names the user who may not create tables, and the fix", async () => {
  const backend = await backends.postgres({ empty: true });
  const role = `guest_${randomBytes(6).toString("hex")}`;
  try {
    // As since Postgres 15, whichever version runs here.
    await backend.query("revoke create on schema public from public");
    await backend.query(`create role ${role} login password 'guest'`);
    const url = Object.assign(new URL(backend.url), { username: role, password: "guest" });
    await expect(migrate({ url: url.href })).rejects.toMatchObject({
      code: "database_rights_missing",
      message: expect.stringMatching(
        new RegExp(`the user ${role} .*: .*alter database \\S+ owner to ${role}"`),
      ),
    });
  } finally {
    await backend.query(`drop role if exists ${role}`);
    await backend.close();
  }
});

it("says what to do if a backup was restored over the tables of a newer version", async () => {
  const backend = await backends.postgres({ empty: true });
  try {
    await migrate({ url: backend.url });
    // As `pg_restore --clean` leaves it: rows and tables of the backup, and the tables that came later.
    await backend.query("delete from kysely_migration where name >= '0021'");
    await expect(migrate({ url: backend.url })).rejects.toThrow(
      /parts of a newer version .*already exists.*: a backup was restored over it; empty the database/,
    );
  } finally {
    await backend.close();
  }
});

it("rejects a second process on one embedded database, and ignores the lock of a process that died", async () => {
  const { dir, close } = await createEmbeddedTestDatabase();
  const open = async () => openStore({ dir, keys: await makeKeys("k1"), logger });
  const store = await open();
  try {
    await expect(open()).rejects.toMatchObject({ code: "embedded_database_in_use" });
    await expect(migrate({ dir })).rejects.toMatchObject({ code: "embedded_database_in_use" });
    await store.close();
    await writeFile(join(dir, "lock"), "4194305");
    expect(await migrate({ dir })).toEqual([]);
  } finally {
    await close();
  }
});

it("goes forward only: no migration has a rollback", async () => {
  for (const name of names) {
    const migration = await import(join(import.meta.dirname, `../../migrations/${name}.ts`));
    expect(Object.keys(migration).filter((key) => key !== "indexes")).toEqual(["up"]);
  }
});

it("times out while an old replica uses a table, changes nothing, and succeeds the next time", async () => {
  const backend = await backends.postgres({ empty: true });
  const replica = new pg.Client({ connectionString: backend.url });
  try {
    await migrateTo("0001_tables", { url: backend.url });
    await replica.connect();
    await replica.query("begin");
    await replica.query("select * from upstream_token");
    await expect(migrate({ url: backend.url })).rejects.toThrow("lock timeout");
    await replica.query("select * from upstream_token");
    await replica.query("commit");
    expect(await backend.query("select name from kysely_migration")).toEqual([{ name: "0001_tables" }]);
    expect(await migrate({ url: backend.url })).toEqual(names.slice(1));
  } finally {
    await replica.end();
    await backend.close();
  }
});
