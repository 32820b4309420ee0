import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A separate file system that can be filled. */
export interface SmallDisk {
  readonly folder: string;
  fill(): Promise<void>;
  empty(): Promise<void>;
  close(): Promise<void>;
}

/** A RAM disk of `megabytes`; undefined if this process may not mount one (requires root). */
export async function smallDisk(megabytes: number): Promise<SmallDisk | undefined> {
  const folder = await mkdtemp(join(tmpdir(), "small-disk-"));
  try {
    await run("mount", ["-t", "tmpfs", "-o", `size=${megabytes}m`, "tmpfs", folder]);
  } catch {
    await rm(folder, { recursive: true, force: true });
    return undefined;
  }
  const ballast = join(folder, "ballast");
  return {
    folder,
    async fill() {
      // Large chunks first, then small ones, until no page is left.
      for (const bytes of [1 << 20, 1 << 12])
        for (let full = false; !full; )
          await writeFile(ballast, Buffer.alloc(bytes), { flag: "a" }).catch(() => {
            full = true;
          });
    },
    empty: () => rm(ballast, { force: true }),
    async close() {
      await run("umount", ["-l", folder]);
      await rm(folder, { recursive: true, force: true });
    },
  };
}
