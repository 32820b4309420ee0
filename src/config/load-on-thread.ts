import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import type { Environment, LoadOptions, ParsedFile } from "./load-config.ts";
import type { Problem } from "./problems.ts";

/*
 * Loads a routes file on another thread: thousands of routes take seconds to parse, and a reload must not hold up checks for so long.
 */

/** What the thread is given (`load-thread.ts`). */
export interface LoadTask {
  readonly file: string;
  readonly env: Environment;
  readonly options: LoadOptions;
}

/** What it finds. */
export interface LoadedOnThread {
  readonly problems: readonly Problem[];
  readonly referencedFiles: readonly string[];
  /** Absent if there are errors. */
  readonly parsed?: ParsedFile;
}

/**
 * Loads and checks a file without holding up the event loop; `buildChecked` makes its configuration.
 * @returns undefined if the thread has ended early, as for lack of memory
 */
export function loadOnThread(
  file: string,
  env: Environment,
  options: LoadOptions,
): Promise<LoadedOnThread | undefined> {
  const task: LoadTask = { file, env: { ...env }, options };
  // Sources and built program have different endings.
  const program = new URL(`load-thread${extname(import.meta.filename)}`, import.meta.url);
  const thread = new Worker(program, { workerData: task });
  thread.unref();
  return new Promise((resolve) => {
    thread.once("message", (found: LoadedOnThread) => resolve(found));
    thread.once("error", () => resolve(undefined));
    thread.once("exit", () => resolve(undefined));
  });
}
