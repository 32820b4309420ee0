import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);
/** Python has file locks on every system that we run on. */
const locked =
  "import fcntl, subprocess, sys; lock = open(sys.argv[1]); fcntl.flock(lock, fcntl.LOCK_EX); sys.exit(subprocess.call(sys.argv[2:]))";

/**
 * Runs a shell script while nobody else does who names the same file: test files run side by side, and two installations at
 * once destroy each other's. The second finds all there.
 * @param lock a file that exists
 * @throws Error with its output, when the script fails
 */
export async function oneAtATime(
  lock: string,
  script: string,
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<void> {
  await run("python3", ["-c", locked, lock, "sh", "-c", script], {
    ...options,
    maxBuffer: 64 * 1024 * 1024,
  });
}
