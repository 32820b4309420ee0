import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);
/** Python has file locks on every supported system. */
const locked =
  "import fcntl, subprocess, sys; lock = open(sys.argv[1]); fcntl.flock(lock, fcntl.LOCK_EX); sys.exit(subprocess.call(sys.argv[2:]))";

/**
 * Runs a shell script under a lock: test files run concurrently, and concurrent installations would corrupt each other.
 * @param lock an existing file; scripts with the same file run one after the other
 * @throws Error with the script's output if it fails
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
