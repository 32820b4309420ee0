import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * Creates one temporary folder for a whole run and sets `TMPDIR` to it: everything that this process and its children create under
 * `os.tmpdir()` is inside. `remove` deletes it. A worker cannot do this itself: Vitest ends workers without an `exit` event.
 */
export async function collectTemporaryFiles(): Promise<{ remove: () => Promise<void> }> {
  const before = process.env.TMPDIR;
  const folder = await mkdtemp(join(tmpdir(), "mcp-auth-"));
  // Postgres runs as another user and stores its data there.
  await chmod(folder, 0o711);
  process.env.TMPDIR = folder;
  return {
    async remove() {
      if (before === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = before;
      await rm(folder, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}
