import { pino } from "pino";
import { openEmbeddedDatabase } from "./embedded/embedded-database.ts";
import { migrateDatabase } from "./migrate-database.ts";
import { openPostgres } from "./postgres/pool.ts";
import type { PostgresTls } from "./postgres/tls.ts";

/**
 * Brings the database at `url`, or the embedded one in `dir`, to the newest version (the `migrate` command; `openStore` does
 * the same by itself).
 * @returns names of the migrations that were run
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
