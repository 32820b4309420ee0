import { statfs } from "node:fs/promises";

/** A segment of Postgres' log, and something to go with it. */
const roomMebibytes = 20;

/**
 * Makes sure that the embedded database finds room for what it is about to write: PGlite that cannot extend its log at a commit
 * never comes back from it, and takes the whole process with it.
 * @throws Error `ENOSPC`
 */
export async function requireRoom(dir: string): Promise<void> {
  const { bavail, bsize } = await statfs(dir);
  if (bavail * bsize >= roomMebibytes * 1024 * 1024) return;
  throw Object.assign(new Error(`less than ${roomMebibytes} MiB are free on the disk that holds ${dir}`), {
    code: "ENOSPC",
  });
}
