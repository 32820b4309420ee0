import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { migrate } from "../../src/store/migrate.ts";

const root = join(import.meta.dirname, "../..");

/**
 * A folder with an empty, migrated embedded database for the caller. A copy: creating one takes seconds, so the original is created once
 * per set of migrations and kept under node_modules.
 */
export async function createEmbeddedTestDatabase(): Promise<{ dir: string; close: () => Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), "store-"));
  await copyEmbeddedTestDatabase(dir);
  return { dir, close: () => rm(dir, { recursive: true, force: true }) };
}

/** Copies an empty, migrated embedded database to the folder `dir`, which is created if missing. */
export async function copyEmbeddedTestDatabase(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true });
  // A thousand files: Node's own `cp` takes four times as long.
  await promisify(execFile)("cp", ["-R", `${await original()}/.`, dir]);
}

async function original(): Promise<string> {
  const hash = createHash("sha256");
  const migrations = join(root, "migrations");
  for (const name of (await readdir(migrations)).sort()) hash.update(await readFile(join(migrations, name)));
  hash.update(await readFile(join(root, "node_modules/@electric-sql/pglite/package.json")));
  const cache = join(root, "node_modules/.cache/envoy-mcp-auth");
  const made = join(cache, `embedded-${hash.digest("hex").slice(0, 16)}`);
  if (await isThere(made)) return made;
  await mkdir(cache, { recursive: true });
  const making = await mkdtemp(join(cache, "making-"));
  await migrate({ dir: making });
  // If several create it concurrently, the first one is used.
  await rename(making, made).catch(() => rm(making, { recursive: true, force: true }));
  return made;
}

const isThere = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  );
