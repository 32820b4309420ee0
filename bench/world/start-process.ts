import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/** A process under measurement. */
export interface Process {
  readonly pid: number;
  /** Milliseconds from its start until it said it was ready. */
  readonly readyMs: number;
  /** What it wrote. */
  log(): string;
  stop(): Promise<void>;
}

const running = new Set<Process>();

/**
 * Starts a command on one core (Linux's `taskset`; elsewhere, or with `core` absent, wherever there is room) and waits until
 * `ready` matches what it has written.
 *
 * @throws Error with the end of its log when it ends or says nothing within 60 s.
 */
export async function startProcess(options: {
  readonly name: string;
  readonly command: readonly string[];
  readonly folder: string;
  readonly ready: RegExp | (() => Promise<boolean>);
  readonly core?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}): Promise<Process> {
  const { name, command, core, ready } = options;
  const logFile = join(options.folder, `${name}-${performance.now().toFixed(0)}.log`);
  const output = openSync(logFile, "w");
  const pinned = core === undefined ? command : ["taskset", "-c", String(core), ...command];
  const { DATABASE_URL: _url, DATABASE_LISTEN_URL: _listenUrl, ...inherited } = process.env;
  const startedAt = performance.now();
  const child = spawn(pinned[0] ?? "", pinned.slice(1), {
    stdio: ["ignore", output, output],
    env: { ...inherited, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  let ended = false;
  child.once("exit", () => {
    ended = true;
  });
  child.once("error", () => {
    ended = true;
  });
  const log = () => readFileSync(logFile, "utf8");
  const isReady = () => (ready instanceof RegExp ? ready.test(log()) : ready());
  while (!(await isReady())) {
    if (ended || performance.now() - startedAt > 60_000) {
      child.kill("SIGKILL");
      // Errors in a configuration come first, warnings after them.
      throw new Error(`${name} did not start:\n${log().slice(0, 1000)}\n…\n${log().slice(-2000)}`);
    }
    await delay(5);
  }
  const started: Process = {
    pid: child.pid ?? -1,
    readyMs: performance.now() - startedAt,
    log,
    async stop() {
      running.delete(started);
      if (ended) return;
      const exit = once(child, "exit");
      child.kill("SIGTERM");
      const late = setTimeout(() => child.kill("SIGKILL"), 15_000);
      await exit;
      clearTimeout(late);
    },
  };
  running.add(started);
  return started;
}

// Whatever ends the run: nothing stays behind.
process.on("exit", () => {
  for (const { pid } of running) process.kill(pid, "SIGKILL");
});
