import { promises as fs } from "node:fs";
import path from "node:path";
import { type Kysely, sql } from "kysely";
import { FileMigrationProvider, type Migration, Migrator } from "kysely/migration";
import { pino } from "pino";
import { openEmbeddedDatabase } from "./embedded/embedded-database.ts";
import { openPostgres, type PostgresTls } from "./postgres/pool.ts";
import type { Tables } from "./tables.ts";

const folder = path.join(import.meta.dirname, "../../migrations");
/** Arbitrary constant, the same in all versions. */
const lockId = 7_021_884_523_117_093n;
/** How long a migration waits for a table that old replicas use. After that it fails and runs again at the next start. */
const tableLockTimeout = "5s";

/**
 * Runs missing migrations, forward only, in one transaction under an advisory lock, so that replicas may start together. Does not
 * change a database that a newer version has migrated: old replicas continue to use it.
 * @returns names of the executed migrations
 */
export async function migrateDatabase(db: Kysely<Tables>): Promise<string[]> {
  const provider = new FileMigrationProvider({ fs, path, migrationFolder: folder });
  const migrations = await provider.getMigrations();
  return db.transaction().execute(async (tx) => {
    await sql`select pg_advisory_xact_lock(${sql.lit(lockId)})`.execute(tx);
    const executed = await executedMigrations(tx);
    if (Object.keys(migrations).every((name) => executed.has(name))) return [];
    await sql`select set_config('statement_timeout', '0', true)`.execute(tx);
    // The first error: the migrator reports a later one, from the aborted transaction.
    let cause: unknown;
    const guarded = Object.entries(migrations).map(([name, migration]) => [
      name,
      {
        up: async (on: Kysely<unknown>) => {
          try {
            await sql`select set_config('lock_timeout', ${tableLockTimeout}, true)`.execute(on);
            await migration.up(on);
            await createIndexes(on, migration);
          } catch (error) {
            cause = error;
            throw error;
          }
        },
      },
    ]);
    const migrator = new Migrator({
      db: tx,
      provider: { getMigrations: async () => Object.fromEntries(guarded) },
    });
    const { error, results } = await migrator.migrateToLatest().catch((error: unknown) => {
      throw cause ?? error;
    });
    if (error) throw cause ?? error;
    return (results ?? []).map((result) => result.migrationName);
  });
}

/** Indexes that a migration exports beside `up`: name and what follows it in `create index`. */
async function createIndexes(
  db: Kysely<unknown>,
  migration: Migration & { indexes?: unknown },
): Promise<void> {
  for (const [name, definition] of Object.entries(migration.indexes ?? {}))
    await sql`create index if not exists ${sql.ref(name)} ${sql.raw(definition)}`.execute(db);
}

async function executedMigrations(db: Kysely<Tables>): Promise<Set<string>> {
  const { rows } = await sql<{ present: boolean }>`
    select to_regclass('kysely_migration') is not null as present`.execute(db);
  if (!rows[0]?.present) return new Set();
  const executed = await sql<{ name: string }>`select name from kysely_migration`.execute(db);
  return new Set(executed.rows.map((row) => row.name));
}

/**
 * Migrates the database at `url`, or the embedded one in `dir`, to the newest version (the `migrate` command; `openStore` does the
 * same).
 * @returns names of the executed migrations
 */
export async function migrate(
  target: { readonly url: string; readonly tls?: PostgresTls } | { readonly dir: string },
): Promise<string[]> {
  if ("dir" in target) {
    const { db, close } = await openEmbeddedDatabase(target.dir);
    return migrateDatabase(db).finally(close);
  }
  const db = openPostgres({
    url: target.url,
    tls: target.tls,
    timeoutMs: 120_000,
    size: 1,
    name: "envoy-mcp-auth migrate",
    logger: pino({ level: "silent" }),
  });
  return migrateDatabase(db).finally(() => db.destroy());
}
