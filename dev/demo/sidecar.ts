import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { supervise } from "./supervise.ts";

/** A running `envoy-mcp-auth serve`. */
export interface Sidecar {
  readonly pid: number;
  readonly logFile: string;
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  kill(signal: NodeJS.Signals): void;
  close(): Promise<void>;
}

/** A command line without its arguments: the executable, and what comes first. */
export type Program = readonly [executable: string, ...first: string[]];

/** The sources, or what a test run bundled from them (`test/support/bundle-program.ts`). */
export const programFile = process.env.BUNDLED_PROGRAM ?? join(import.meta.dirname, "../../src/main.ts");

const ours: Program = [process.execPath, programFile];

/** Runs a command of the program to its end. @returns its standard output */
export async function runProgram(
  [executable, ...first]: Program = ours,
  args: readonly string[] = [],
  env: NodeJS.ProcessEnv = process.env,
): Promise<string> {
  const options = { env, maxBuffer: 16 * 1024 * 1024 };
  return (await promisify(execFile)(executable, [...first, ...args], options)).stdout;
}

/**
 * Starts the sidecar as a separate process and waits for its `ready` line. Its environment is this process's without `DATABASE_URL`,
 * plus `env`.
 * @throws Error with the end of its log if it exits or is not ready within 60 s.
 */
export async function sidecar(options: {
  configFile: string;
  logFile: string;
  env?: Readonly<Record<string, string>>;
  /** Envoy's files are kept up to date there. */
  xdsDir?: string;
  /** Further options of `serve`. */
  args?: readonly string[];
  program?: Program;
}): Promise<Sidecar> {
  const { DATABASE_URL: _url, DATABASE_LISTEN_URL: _listenUrl, ...inherited } = process.env;
  const known = existsSync(options.logFile) ? readFileSync(options.logFile, "utf8").length : 0;
  const xds = options.xdsDir === undefined ? [] : ["--xds-dir", options.xdsDir];
  const [executable, ...first] = options.program ?? ours;
  const child = supervise(
    executable,
    [...first, "serve", "--config", options.configFile, ...xds, ...(options.args ?? [])],
    {
      logFile: options.logFile,
      env: { ...inherited, ...options.env },
    },
  );
  let ended: Awaited<Sidecar["exited"]> | undefined;
  void child.exited.then((how) => {
    ended = how;
  });
  const log = () => readFileSync(options.logFile, "utf8").slice(known);
  for (const until = Date.now() + 60_000; !/"msg":"ready"/.test(log()); await delay(50)) {
    if (!ended && Date.now() < until) continue;
    await child.stop();
    const tail = log().trim().split("\n").slice(-15).join("\n");
    const what = ended
      ? `ended before it was ready (${ended.signal ?? `exit code ${ended.code}`})`
      : "was not ready in 60 s";
    throw new Error(`The sidecar ${what}. The end of its log, ${options.logFile}:\n${tail || "(empty)"}`);
  }
  return {
    pid: child.pid,
    logFile: options.logFile,
    exited: child.exited,
    kill: child.kill,
    close: () => child.stop(),
  };
}
