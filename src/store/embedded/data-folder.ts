import { constants, existsSync } from "node:fs";
import { access, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { systemReason, thisUser } from "../../util/unusable-setting.ts";
import { StoreMisconfigured } from "../errors.ts";

/**
 * Creates the folder of the embedded database if necessary.
 * @param dir `database.dir`
 * @throws StoreMisconfigured `database_dir_unusable` if it cannot be created or written to
 */
export async function makeDataFolder(dir: string): Promise<void> {
  let folder = dir;
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const usable = () => access(folder, constants.R_OK | constants.W_OK | constants.X_OK);
    await usable();
    // PGlite's own folder: it reports a permission that it lacks as an object without a message.
    folder = join(dir, "database");
    if (existsSync(folder)) await usable();
  } catch (error) {
    throw new StoreMisconfigured(
      "database_dir_unusable",
      `database.dir: cannot use ${folder}: ${systemReason(error)}; make it a folder that ${thisUser()} can write to, or set database.url (DATABASE_URL) to a Postgres server`,
      error,
    );
  }
}
