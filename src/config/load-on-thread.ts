import { once } from "node:events";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import type { Environment, LoadOptions, ParsedFile, ReferencedFiles } from "./load-config.ts";
import type { Problem } from "./problems.ts";

/** What the thread is given (`load-thread.ts`). */
export interface LoadTask {
  readonly file: string;
  readonly env: Environment;
  readonly options: LoadOptions;
}

/** What it finds. */
export interface LoadedOnThread {
  readonly problems: readonly Problem[];
  readonly files: ReferencedFiles;
  /** Absent if there are errors. */
  readonly parsed?: ParsedFile;
}

/**
 * Loads and checks a file on another thread: thousands of routes take seconds to parse, and a reload must not hold up checks for so
 * long. `buildChecked` then makes the configuration. If the thread fails, that is the file's problem.
 */
export async function loadOnThread(
  file: string,
  env: Environment,
  options: LoadOptions,
  signal?: AbortSignal,
): Promise<LoadedOnThread> {
  const task: LoadTask = { file, env: { ...env }, options };
  // Sources and built program have different endings.
  const program = new URL(`load-thread${extname(import.meta.filename)}`, import.meta.url);
  let thread: Worker | undefined;
  try {
    // Not this process's options: some are for its own program.
    thread = new Worker(program, { workerData: task, execArgv: [] });
    thread.unref();
    // `once` reports errors until it ends; later ones concern nobody.
    thread.on("error", () => {});
    const noAnswer = once(thread, "exit", { signal }).then(() => [undefined]);
    const [found]: (LoadedOnThread | undefined)[] = await Promise.race([
      once(thread, "message", { signal }),
      noAnswer,
    ]);
    if (!found) throw Object.assign(new Error("the thread has ended"), { code: "no answer" });
    return found;
  } catch (error) {
    return { problems: [threadProblem(file, error)], files: new Map() };
  } finally {
    void thread?.terminate();
  }
}

function threadProblem(file: string, error: unknown): Problem {
  const code = error instanceof Error && "code" in error ? String(error.code) : "failed";
  const place = { severity: "error", file, line: 1, column: 1, path: "" } as const;
  return code === "ERR_WORKER_OUT_OF_MEMORY"
    ? {
        ...place,
        message: "there is not enough memory to load a file of this size while requests are served",
        fix: "raise the memory limit of the container, or --max-old-space-size in NODE_OPTIONS",
      }
    : {
        ...place,
        message: `the file cannot be loaded on another thread (${code})`,
        fix: "restart to use it, and report this",
      };
}
