import { createHash } from "node:crypto";
import { existsSync, globSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { basename, join } from "node:path";
import { rolldown } from "rolldown";

const root = join(import.meta.dirname, "../..");
const cache = join(root, "node_modules/.cache/envoy-mcp-auth");
const prefix = "program-";
const unusedMs = 86_400_000;

/**
 * Bundles `src/main.ts` and the migrations into a few files: Node takes two seconds of CPU time to find and link 1,400 modules, and the
 * tests start hundreds of processes. Kept under node_modules until the sources change.
 * @returns the file to run
 */
export async function bundleProgram(): Promise<string> {
  const made = join(cache, `${prefix}${await hashOfSources()}`);
  const file = join(made, "src/main.mjs");
  if (!existsSync(file)) {
    await mkdir(cache, { recursive: true });
    const making = await mkdtemp(join(cache, "making-"));
    await bundle(making);
    // Also for the processes of another user that tests start.
    await chmod(making, 0o755);
    await removeUnused();
    // If several make it concurrently, the first one is used.
    await rename(making, made).catch(() => rm(making, { recursive: true, force: true }));
  }
  await utimes(made, new Date(), new Date());
  return file;
}

async function bundle(folder: string): Promise<void> {
  const migrations = globSync("migrations/*.ts", { cwd: root });
  const build = await rolldown({
    cwd: root,
    input: {
      "src/main": "src/main.ts",
      // Beside the code that starts it.
      "src/chunks/load-thread": "src/config/load-thread.ts",
      ...Object.fromEntries(migrations.map((file) => [`migrations/${basename(file, ".ts")}`, file])),
    },
    platform: "node",
    // Files are found beside the first's code; OpenTelemetry's parts find each other as packages only; the others are seldom loaded.
    external: [/^@electric-sql\//, /^@opentelemetry\//, /^@aws-sdk\//, /^google-auth-library/],
    resolve: { mainFields: ["module", "main"] },
    logLevel: "silent",
  });
  await build.write({
    dir: folder,
    // Without a package.json above them, `.js` files would be parsed twice.
    entryFileNames: "[name].mjs",
    // As deep as the module that looks for the migrations.
    chunkFileNames: "src/chunks/[name]-[hash].mjs",
  });
  await build.close();
}

async function hashOfSources(): Promise<string> {
  const hash = createHash("sha256");
  const files = globSync(
    ["src/**/*.ts", "migrations/*.ts", "package-lock.json", "test/support/bundle-program.ts"],
    { cwd: root },
  );
  for (const file of files.sort()) hash.update(file).update(await readFile(join(root, file)));
  return hash.digest("hex").slice(0, 16);
}

async function removeUnused(): Promise<void> {
  for (const name of await readdir(cache)) {
    if (!name.startsWith(prefix)) continue;
    const folder = join(cache, name);
    const { mtimeMs } = await stat(folder);
    if (mtimeMs < Date.now() - unusedMs) await rm(folder, { recursive: true, force: true });
  }
}
