import { spawn } from "node:child_process";
import { openSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

/** A child process that does not outlive this one. */
export interface Supervised {
  readonly pid: number;
  /** Settles when the process has ended, for whatever reason. */
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** SIGTERM, and SIGKILL after `graceMs` (default 8,000). */
  stop(graceMs?: number): Promise<void>;
  kill(signal: NodeJS.Signals): void;
}

/*
 * A watcher next to the process reads a pipe whose other end this process holds: when this process ends, for whatever reason, the
 * pipe closes and the watcher ends the child. `exec` keeps the process id.
 */
const script = `
exec 3<&0
{ cat <&3 >/dev/null
  kill -TERM $$ || exit 0
  i=0; while [ $i -lt 80 ]; do sleep 0.1; kill -0 $$ || exit 0; i=$((i+1)); done
  kill -KILL $$; } >/dev/null 2>&1 &
exec "$@" 3<&- </dev/null`;

/** Starts `command` in its own process group, so that Ctrl-C does not reach it; its output goes to `logFile`. */
export function supervise(
  command: string,
  args: readonly string[],
  options: { logFile: string; env?: NodeJS.ProcessEnv; cwd?: string },
): Supervised {
  const log = openSync(options.logFile, "a");
  const child = spawn("/bin/sh", ["-c", script, "sh", command, ...args], {
    detached: true,
    stdio: ["pipe", log, log],
    env: options.env ?? process.env,
    cwd: options.cwd,
  });
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once("exit", (code, signal) => resolve({ code, signal }));
    child.once("error", () => resolve({ code: 127, signal: null }));
  });
  child.stdin?.on("error", () => {});
  return {
    pid: child.pid ?? -1,
    exited,
    kill: (signal) => void child.kill(signal),
    async stop(graceMs = 8000) {
      child.kill("SIGTERM");
      const waiting = new AbortController();
      const late = delay(graceMs, "late", { signal: waiting.signal }).catch(() => "cancelled");
      if ((await Promise.race([exited, late])) === "late") child.kill("SIGKILL");
      waiting.abort();
      await exited;
    },
  };
}
