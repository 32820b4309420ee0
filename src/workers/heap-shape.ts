import { accessSync, constants } from "node:fs";
import { memoryOfContainer } from "../util/container-memory.ts";

const mebibyte = 1024 * 1024;

/** What a process may use. */
export interface ProcessMemory {
  /** Of the container, or of the machine. */
  readonly memoryBytes: number;
  /** Processes that share it (1). */
  readonly workers?: number;
}

/**
 * V8 flags for one process of `serve`. V8 reads them when it creates the heap: they belong on the command line of a process
 * (`execArgv` of a worker).
 *
 * - Old space: at most half of a small share, because connections, buffers and the embedded database are outside the heap; of a large
 *   share all but a quarter.
 * - Its initial size: Node.js keeps the object of an HTTP/2 stream until a full collection, so that checks fill the old space with
 *   garbage. V8 starts no full collection below this size: fewer pauses, for memory that the container has anyway.
 * - Young generation: its pauses are as long as it is large (docs/performance.md).
 * - `gc()`, for `collectStartupGarbage`.
 */
export function heapFlags({ memoryBytes, workers = 1 }: ProcessMemory): readonly string[] {
  const share = Math.floor(memoryBytes / mebibyte / workers);
  const old = Math.min(Math.max(48, share <= 512 ? share / 2 : share - Math.max(256, share / 4)), 4096);
  return [
    `--max-old-space-size=${Math.floor(old)}`,
    `--initial-old-space-size=${Math.floor(Math.min(share / 4, 400))}`,
    `--max-semi-space-size=${share < 256 ? 1 : share < 512 ? 2 : 4}`,
    "--expose-gc",
  ];
}

/**
 * Settings of glibc's allocator for a process of `serve`, as environment variables; other C libraries ignore them. By default, it keeps
 * what it once needed: code that is compiled, and the creation of an embedded database, leave up to a hundred MiB behind.
 */
export const allocatorSettings = {
  MALLOC_ARENA_MAX: "2",
  MALLOC_MMAP_THRESHOLD_: String(128 * 1024),
  MALLOC_TRIM_THRESHOLD_: String(mebibyte),
};

/**
 * Flags that the operator has not chosen: those in `NODE_OPTIONS` and on the command line win. With an old space of their size, its
 * initial size is left to V8.
 * @param execArgv as in `process.execArgv`
 */
export function flagsToAdd(
  flags: readonly string[],
  execArgv: readonly string[],
  nodeOptions: string | undefined,
): readonly string[] {
  const chosen = new Set([...execArgv, ...(nodeOptions ?? "").split(/\s+/)].map(nameOf));
  if (chosen.has("max-old-space-size") || chosen.has("max-old-space-size-percentage")) {
    chosen.add("max-old-space-size");
    chosen.add("initial-old-space-size");
  }
  return flags.filter((flag) => !chosen.has(nameOf(flag)));
}

/** Command-line options of one of several workers: this process's, with a heap for its share instead of the one for all memory. */
export function workerExecArgv(workers: number): readonly string[] {
  const memoryBytes = memoryOfContainer();
  const own = new Set(heapFlags({ memoryBytes }));
  const chosen = process.execArgv.filter((flag) => !own.has(flag));
  return [...flagsToAdd(heapFlags({ memoryBytes, workers }), chosen, process.env.NODE_OPTIONS), ...chosen];
}

/** V8 accepts underscores, too. */
function nameOf(flag: string): string {
  return flag
    .replace(/^["']?--/, "")
    .replace(/=.*$/s, "")
    .replaceAll("_", "-");
}

/**
 * Replaces this process by one with the flags for its container, unless it has them: same process id, arguments, environment and
 * standard streams. Does nothing where a process cannot be replaced (Windows, or a child with a channel to its parent).
 */
export function restartWithHeapFlags(): void {
  const { execArgv, execPath, env } = process;
  const added = flagsToAdd(heapFlags({ memoryBytes: memoryOfContainer() }), execArgv, env.NODE_OPTIONS);
  // With the new flags it comes here again.
  if (added.length === 0 || typeof process.execve !== "function" || process.send !== undefined) return;
  try {
    accessSync(execPath, constants.X_OK);
  } catch {
    // A failure to replace a process ends it.
    return;
  }
  process.execve(execPath, [process.argv0, ...added, ...execArgv, ...process.argv.slice(1)], {
    ...allocatorSettings,
    ...env,
  });
}

/** Frees what only the start needed, before anybody waits for an answer; an idle process would keep it. */
export function collectStartupGarbage(): void {
  globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
}
