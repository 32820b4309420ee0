import { link, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { StoreMisconfigured } from "./store-misconfigured.ts";

/**
 * Claims `dir` for this process by a file that names it: two processes on one embedded database would corrupt it.
 * A claim whose process is gone (or has our own id, as the first process of a restarted container does) is void.
 * @returns the way to give it back
 * @throws StoreMisconfigured `embedded_database_in_use`
 */
export async function lockFolder(dir: string): Promise<() => Promise<void>> {
  const path = join(dir, "lock");
  // Written before it stands: whoever found it empty would take its holder for dead.
  const claim = join(dir, `lock.${process.pid}`);
  await writeFile(claim, String(process.pid), { mode: 0o600 });
  try {
    await hold(claim, path, dir);
  } finally {
    await rm(claim, { force: true });
  }
  return async () => {
    heldHere.delete(path);
    await rm(path, { force: true });
  };
}

async function hold(claim: string, path: string, dir: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await link(claim, path);
      heldHere.add(path);
      return;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    }
    const holder = Number(await readFile(path, "utf8").catch(() => ""));
    const alive = holder === process.pid ? heldHere.has(path) : isAlive(holder);
    if (alive || attempt === 3)
      throw new StoreMisconfigured(
        "embedded_database_in_use",
        `database.dir ${dir} is in use by process ${holder}: the embedded database serves one process at a time; stop that one, or set database.url (DATABASE_URL) to a Postgres server`,
      );
    await rm(path, { force: true });
  }
}

const heldHere = new Set<string>();

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
