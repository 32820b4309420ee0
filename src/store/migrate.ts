import { promises as fs } from "node:fs";
import path from "node:path";
import { type Kysely, sql } from "kysely";
import { FileMigrationProvider, Migrator } from "kysely/migration";
import { pino } from "pino";
import { boundFirstPartition } from "./audit-partitions.ts";
import { openEmbeddedDatabase } from "./embedded/embedded-database.ts";
import { StoreMisconfigured } from "./errors.ts";
import { createIndexes, type IndexDefinitions } from "./indexes.ts";
import { buildIndexes, type IndexProgress } from "./postgres/build-indexes.ts";
import { openPostgres, type PostgresTls } from "./postgres/pool.ts";
import type { Tables } from "./tables.ts";

const folder = path.join(import.meta.dirname, "../../migrations");
/** Arbitrary constant, the same in all versions. */
const lockId = 7_021_884_523_117_093n;
/** How long a migration waits for a table that old replicas use. After that it fails and runs again at the next start. */
const tableLockTimeout = "5s";

const provider = new FileMigrationProvider({ fs, path, migrationFolder: folder });

/**
 * The indexes that migrations export beside `up`, because building them on a large table takes long:
 * `export const indexes = { name: "on table (columns) where ..." }`.
 */
export async function migrationIndexes(): Promise<IndexDefinitions> {
  const indexes: Record<string, string> = {};
  for (const migration of Object.values(await provider.getMigrations()))
    Object.assign(indexes, "indexes" in migration ? migration.indexes : {});
  return indexes;
}

/** Whether a newer version has migrated the database: it may have replaced indexes of this one, which must not come back. */
export async function isNewer(db: Kysely<Tables>): Promise<boolean> {
  const known = Object.keys(await provider.getMigrations());
  return [...(await executedMigrations(db))].some((name) => !known.includes(name));
}

/**
 * Runs missing migrations, forward only, in one transaction under an advisory lock, so that replicas may start together. Does not
 * change a database that a newer version has migrated: old replicas continue to use it. Quick on tables of any size: their indexes are
 * built afterwards.
 * @returns names of the executed migrations
 */
export async function migrateDatabase(db: Kysely<Tables>): Promise<string[]> {
  const migrations = await provider.getMigrations();
  return db.transaction().execute(async (tx) => {
    await sql`select pg_advisory_xact_lock(${sql.lit(lockId)})`.execute(tx);
    const executed = await executedMigrations(tx);
    if (Object.keys(migrations).every((name) => executed.has(name))) return [];
    await requireRights(tx);
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
      throw explained(cause ?? error);
    });
    if (error) throw explained(cause ?? error);
    return (results ?? []).map((result) => result.migrationName);
  });
}

/** `pg_restore --clean` removes only what the backup has: tables of a newer version stay. */
function explained(error: unknown): unknown {
  const exists = ["42P07", "42701", "42710"];
  if (!(error instanceof Error && "code" in error && exists.includes(String(error.code)))) return error;
  return new StoreMisconfigured(
    "database_not_emptied",
    `the database has parts of a newer version (${error.message}): a backup was restored over it; empty the database and restore it again (docs/reliability.md#restoring-from-a-backup)`,
    error,
  );
}

/** @throws StoreMisconfigured Since Postgres 15, only the owner of a database may create tables there. */
async function requireRights(db: Kysely<Tables>): Promise<void> {
  const { rows } = await sql<{ role: string; database: string; may: boolean | null }>`
    select current_user as role, current_database() as database, has_schema_privilege(current_schema(), 'create') as may`.execute(
    db,
  );
  const [row] = rows;
  if (row?.may) return;
  throw new StoreMisconfigured(
    "database_rights_missing",
    `the user ${row?.role} of DATABASE_URL may not create tables in the database ${row?.database}: as its administrator, run "alter database ${row?.database} owner to ${row?.role}" (docs/deployment.md#postgres)`,
  );
}

async function executedMigrations(db: Kysely<Tables>): Promise<Set<string>> {
  const { rows } = await sql<{ present: boolean }>`
    select to_regclass('kysely_migration') is not null as present`.execute(db);
  if (!rows[0]?.present) return new Set();
  const executed = await sql<{ name: string }>`select name from kysely_migration`.execute(db);
  return new Set(executed.rows.map((row) => row.name));
}

/** What `migrate` does after the migrations. */
export interface MigrateOptions {
  /** Leaves indexes to `serve`, which builds them in the background. */
  readonly skipIndexes?: boolean;
  /** Cancels the building of indexes. */
  readonly signal?: AbortSignal;
  readonly onMigrated?: (migrations: readonly string[]) => void;
  readonly onProgress?: (progress: IndexProgress) => void;
  /** `elsewhere`: another process is building them. */
  readonly onIndexes?: (outcome: "built" | "elsewhere" | "interrupted" | "skipped") => void;
  /** Default: the ones that the migrations export. */
  readonly indexes?: IndexDefinitions;
}

/**
 * Migrates the database at `url`, or the embedded one in `dir`, to the newest version, and builds indexes (the `migrate` command;
 * `openStore` does the same, but does not wait for indexes).
 * @param target.listenUrl reaches the server itself, if `url` is a transaction-mode pooler
 * @returns names of the executed migrations
 */
export async function migrate(
  target:
    | { readonly url: string; readonly listenUrl?: string; readonly tls?: PostgresTls }
    | { readonly dir: string },
  options: MigrateOptions = {},
): Promise<string[]> {
  const wanted = options.indexes ?? (await migrationIndexes());
  const migrated = async (db: Kysely<Tables>) => {
    const migrations = await migrateDatabase(db);
    options.onMigrated?.(migrations);
    return migrations;
  };
  if ("dir" in target) {
    const { db, close } = await openEmbeddedDatabase(target.dir);
    try {
      const migrations = await migrated(db);
      await createIndexes(db, wanted);
      await boundFirstPartition(db, new Date());
      options.onIndexes?.("built");
      return migrations;
    } finally {
      await close();
    }
  }
  const { tls = {} } = target;
  const db = openPostgres({
    url: target.url,
    tls,
    timeoutMs: 120_000,
    size: 1,
    name: "envoy-mcp-auth migrate",
    logger: pino({ level: "silent" }),
  });
  try {
    const migrations = await migrated(db);
    const skip = options.skipIndexes || (await isNewer(db));
    const build = {
      ...{ url: target.listenUrl ?? target.url, tls, db, wanted },
      signal: options.signal ?? new AbortController().signal,
      report: options.onProgress ?? (() => {}),
    };
    const outcome = skip ? "skipped" : await buildIndexes(build);
    options.onIndexes?.(outcome);
    return migrations;
  } finally {
    await db.destroy();
  }
}
