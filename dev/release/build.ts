import { execFile } from "node:child_process";
import { chmod, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

/** The checkout. */
export const root = join(import.meta.dirname, "../..");

/** The built program, relative to the folder of its package. */
export const entryPoint = "dist/src/main.js";

/**
 * Compiles `src/` and `migrations/` to JavaScript with source maps in `dist/`, replacing what is there: a file that is no longer in
 * the sources would be packed, too.
 * @throws Error with the compiler's output
 */
export async function build(): Promise<void> {
  await rm(join(root, "dist"), { recursive: true, force: true });
  const compiler = join(root, "node_modules/typescript/bin/tsc");
  await promisify(execFile)(process.execPath, [compiler, "--project", "tsconfig.build.json"], {
    cwd: root,
  }).catch(({ stdout, message }) => Promise.reject(new Error(stdout || message)));
  await chmod(join(root, entryPoint), 0o755);
}

if (import.meta.main) {
  try {
    await build();
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    process.exitCode = 1;
  }
}
