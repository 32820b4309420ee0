import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Kysely, PGliteDialect } from "kysely";
import { lockFolder } from "./lock-folder.ts";
import { openPglite, type ReopeningPglite } from "./open-pglite.ts";
import { requireRoom } from "./require-room.ts";
import type { Tables } from "./tables.ts";

/**
 * Postgres inside this process, its files in `dir/database`. One process at a time.
 * @throws StoreMisconfigured `embedded_database_in_use`
 * @throws Error `ENOSPC`
 */
export async function openEmbeddedDatabase(
  dir: string,
): Promise<{ db: Kysely<Tables>; pglite: ReopeningPglite; close: () => Promise<void> }> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await requireRoom(dir);
  const unlock = await lockFolder(dir);
  try {
    const pglite = await openPglite(join(dir, "database"));
    const db = new Kysely<Tables>({ dialect: new PGliteDialect({ pglite }) });
    const close = async () => {
      await db.destroy();
      if (!pglite.closed) await pglite.close();
      await unlock();
    };
    return { db, pglite, close };
  } catch (error) {
    await unlock();
    throw error;
  }
}
