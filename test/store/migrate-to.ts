import { promises as fs } from "node:fs";
import path from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { Kysely, PGliteDialect, PostgresDialect } from "kysely";
import { FileMigrationProvider, Migrator } from "kysely/migration";
import pg from "pg";

const provider = new FileMigrationProvider({
  fs,
  path,
  migrationFolder: path.join(import.meta.dirname, "../../migrations"),
});

/** Migrates an empty database to `version`, like a release with that newest migration. */
export async function migrateTo(version: string, target: { url: string } | { dir: string }): Promise<void> {
  const db = new Kysely<unknown>({
    dialect:
      "url" in target
        ? new PostgresDialect({ pool: new pg.Pool({ connectionString: target.url, max: 1 }) })
        : new PGliteDialect({ pglite: await PGlite.create({ dataDir: path.join(target.dir, "database") }) }),
  });
  try {
    const migrations = Object.entries(await provider.getMigrations()).filter(([name]) => name <= version);
    const migrator = new Migrator({
      db,
      provider: { getMigrations: async () => Object.fromEntries(migrations) },
    });
    const { error } = await migrator.migrateToLatest();
    if (error) throw error;
  } finally {
    await db.destroy();
  }
}
