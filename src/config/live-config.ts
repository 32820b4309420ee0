import { type FSWatcher, realpathSync, statSync, watch } from "node:fs";
import { dirname, resolve } from "node:path";
import { buildChecked, type LoadedConfig, loadConfig, type ReferencedFiles } from "./load-config.ts";
import { loadOnThread } from "./load-on-thread.ts";
import { formatProblem, InvalidConfig, type Problem } from "./problems.ts";
import { fingerprint } from "./referenced-files.ts";
import { unusableReasons } from "./reserved-routes.ts";
import { untilRestart } from "./restart-keys.ts";
import { type CurrentRoutes, createRouteTable, type RouteTable } from "./route-table.ts";
import {
  buildStoredRoutes,
  type ParsedEntries,
  type StoredEntry,
  type StoredRoutesBuilt,
  type UnusableRows,
} from "./stored-routes.ts";

/** Debounce of changes, ms: editors write in several steps. */
const settleMs = 100;
/** Polling interval for file systems without change events (network mounts), ms. */
const pollMs = 5000;

/** Larger routes files are loaded on another thread, bytes: some 300 routes, which take 50 to 150 ms. */
const loadedAtOnceBytes = 100_000;

/** Watches a set of files. */
export interface FileWatch {
  /** Replaces the watched files. */
  files(paths: readonly string[]): void;
  close(): void;
}

/**
 * Calls `changed` after events in the folders of the files and of their link targets. It watches folders because editors and
 * Kubernetes replace files by rename, after which a watch on the file itself would see the old one. It may also call without a change,
 * so compare contents. Does not keep the process alive.
 */
export function watchFiles(changed: () => void): FileWatch {
  const watchers = new Map<string, FSWatcher>();
  let paths: readonly string[] = [];
  let settling: NodeJS.Timeout | undefined;
  let closed = false;
  const event = () => {
    clearTimeout(settling);
    settling = setTimeout(() => {
      if (closed) return;
      refresh();
      changed();
    }, settleMs);
    settling.unref();
  };
  const refresh = () => {
    const folders = new Set(paths.flatMap(foldersOf));
    for (const [folder, watcher] of watchers) {
      if (folders.has(folder)) continue;
      watcher.close();
      watchers.delete(folder);
    }
    for (const folder of folders) {
      if (watchers.has(folder)) continue;
      try {
        const watcher = watch(folder, { persistent: false }, event);
        // The folder was removed; polling finds it when it returns.
        watcher.on("error", () => {
          watcher.close();
          watchers.delete(folder);
        });
        watchers.set(folder, watcher);
      } catch {
        // The folder is missing, or no inotify watches are left: polling is the fallback.
      }
    }
  };
  const poll = setInterval(() => {
    refresh();
    changed();
  }, pollMs);
  poll.unref();
  return {
    files(next) {
      paths = next;
      refresh();
    },
    close() {
      closed = true;
      clearTimeout(settling);
      clearInterval(poll);
      for (const watcher of watchers.values()) watcher.close();
      watchers.clear();
    },
  };
}

function foldersOf(path: string): string[] {
  try {
    return [dirname(path), dirname(realpathSync(path))];
  } catch {
    return [dirname(path)];
  }
}

/** The current configuration, replaced as a whole when the file changes. */
export interface LiveConfig {
  readonly current: CurrentRoutes;
  /** Called after a valid file took effect. `needsRestart`: changed keys that take effect only after a restart. */
  onChange(listener: (table: RouteTable, needsRestart: readonly string[]) => void): () => void;
  /** Called after an invalid file was rejected, with its problems as text. */
  onProblem(listener: (problem: string) => void): () => void;
  /**
   * Replaces the routes of the database, atomically.
   * @param unusable rows whose entry cannot be decrypted, and rejected rows
   */
  setStoredRoutes(entries: readonly StoredEntry[], unusable?: UnusableRows): void;
  /** Why stored routes are not in effect, by id. */
  storedProblems(): ReadonlyMap<string, readonly Problem[]>;
  /** Stored routes that are in effect without their credential, by id: requests get 503. */
  withoutCredential(): ReadonlyMap<string, readonly Problem[]>;
  /**
   * A dry run of `setStoredRoutes`, beside the unusable rows in effect.
   * @param removed the id of a row that is deleted
   */
  tryStoredRoutes(entries: readonly StoredEntry[], removed?: string): StoredRoutesBuilt;
  /** Problems of the newest file, including warnings. */
  lastProblems(): readonly Problem[];
  /** Why the newest file was rejected; undefined if it is in effect. */
  lastProblem(): string | undefined;
  close(): void;
}

/** The metrics that are updated here. */
interface ConfigMetrics {
  readonly configLoads: { inc(labels: { outcome: "loaded" | "rejected" }): void };
  readonly configLastLoadSuccessful: { set(value: number): void };
  readonly routes: { set(labels: { source: "file" | "database" }, value: number): void };
  readonly routesRejected: { set(labels: { reason: string }, value: number): void };
}

/**
 * Loads `file`, then watches it, and the secrets it refers to.
 * @throws InvalidConfig when the first load fails; later ones only report.
 */
export function createLiveConfig(deps: {
  readonly file: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly metrics: ConfigMetrics;
  /** As `loadConfig` takes them. */
  readonly listeners?: { readonly grpc?: string; readonly http?: string };
  readonly workers?: number;
}): LiveConfig {
  const { file, env, metrics, listeners, workers } = deps;
  const changes = new Set<(table: RouteTable, needsRestart: readonly string[]) => void>();
  const rejectionListeners = new Set<(problem: string) => void>();

  // Taken before the file is read, so that a change in between is detected.
  const before = fingerprints([resolve(file)]);
  const first = loadConfig(file, env, { listeners, workers });
  if (!first.ok) throw new InvalidConfig(first.problems);
  let inFile = first.config;
  let stored: readonly StoredEntry[] = [];
  let unusable: UnusableRows | undefined;
  let storedProblems: ReadonlyMap<string, readonly Problem[]> = new Map();
  let withoutCredential: ReadonlyMap<string, readonly Problem[]> = new Map();
  let parsed: ParsedEntries | undefined;
  let table = buildTable(undefined);
  let problems = first.problems;
  let rejection: string | undefined;
  let watched = [resolve(file), ...first.files.keys()];
  let seen = new Map([...before, ...fingerprintsOf(first.files)]);
  metrics.configLoads.inc({ outcome: "loaded" });
  metrics.configLastLoadSuccessful.set(1);

  const closing = new AbortController();
  /** A file is being loaded; files may have changed meanwhile. */
  let loading = false;
  let changedMeanwhile = false;
  const watch = watchFiles(async () => {
    changedMeanwhile = true;
    if (loading) return;
    loading = true;
    try {
      while (changedMeanwhile && !closing.signal.aborted) {
        changedMeanwhile = false;
        await loadChanged();
      }
    } finally {
      loading = false;
    }
  });
  watch.files(watched);

  async function loadChanged(): Promise<void> {
    const now = fingerprints(watched);
    if (watched.every((path) => now.get(path) === seen.get(path))) return;
    const loaded = await loadAgain();
    if (closing.signal.aborted) return;
    // What the routes in effect refer to is watched until others replace them.
    watched = [...new Set([resolve(file), ...loaded.files.keys(), ...(loaded.ok ? [] : watched)])];
    watch.files(watched);
    seen = new Map([...fingerprintsOf(loaded.files), ...now]);
    problems = loaded.problems;
    metrics.configLoads.inc({ outcome: loaded.ok ? "loaded" : "rejected" });
    metrics.configLastLoadSuccessful.set(loaded.ok ? 1 : 0);
    if (!loaded.ok) {
      rejection = describeProblems(loaded.problems);
      for (const listener of rejectionListeners) listener(rejection);
      return;
    }
    rejection = undefined;
    const { config, needsRestart } = untilRestart(inFile, loaded.config);
    inFile = config;
    table = buildTable(table);
    for (const listener of changes) listener(table, needsRestart);
  }

  async function loadAgain(): Promise<LoadedConfig> {
    const options = { listeners, workers };
    // A thread takes longer to start than a small file to load.
    if (sizeOf(file) <= loadedAtOnceBytes) return loadConfig(file, env, options);
    const { problems, files, parsed } = await loadOnThread(file, env, options, closing.signal);
    if (!parsed) return { ok: false, problems, files };
    try {
      const config = await buildChecked({ file, env, options, parsed, files });
      return { ok: true, config, problems, files, parsed };
    } catch (error) {
      return { ok: false, problems: [...problems, notBuilt(file, error)], files };
    }
  }

  function buildTable(before: RouteTable | undefined): RouteTable {
    const built = buildStoredRoutes(inFile, stored, unusable, parsed);
    parsed = built.parsed;
    const { config } = built;
    storedProblems = built.problems;
    withoutCredential = built.withoutCredential;
    metrics.routes.set({ source: "file" }, inFile.routes.length);
    metrics.routes.set({ source: "database" }, config.routes.length - inFile.routes.length);
    for (const reason of unusableReasons) {
      const { length } = config.reserved.filter((one) => one.reason === reason);
      metrics.routesRejected.set({ reason }, length);
    }
    metrics.routesRejected.set({ reason: "credential_missing" }, withoutCredential.size);
    return createRouteTable(config, before, Date.now());
  }

  return {
    current: () => table,
    setStoredRoutes(entries, rows) {
      stored = entries;
      unusable = rows;
      table = buildTable(table);
      for (const listener of changes) listener(table, []);
    },
    storedProblems: () => storedProblems,
    withoutCredential: () => withoutCredential,
    tryStoredRoutes(entries, removed) {
      const ids = new Set([...entries.map(({ id }) => id), removed]);
      const others = ({ id }: { readonly id: string }) => !ids.has(id);
      const rows = {
        unreadable: unusable?.unreadable.filter(others) ?? [],
        rejected: unusable?.rejected.filter(others) ?? [],
      };
      return buildStoredRoutes(inFile, entries, rows, parsed);
    },
    onChange: (listener) => subscribe(changes, listener),
    onProblem: (listener) => subscribe(rejectionListeners, listener),
    lastProblems: () => problems,
    lastProblem: () => rejection,
    close() {
      closing.abort();
      watch.close();
    },
  };
}

/** A checked file that cannot be built: nothing but its change, or a restart, can help. */
function notBuilt(file: string, error: unknown): Problem {
  return {
    ...{ severity: "error", file, line: 1, column: 1, path: "" },
    message: error instanceof Error ? error.message : "the file was checked, but cannot be built",
    fix: "save the file again or restart; if it is rejected again, report this",
  };
}

function subscribe<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

function describeProblems(problems: readonly Problem[]): string {
  const errors = problems.filter(({ severity }) => severity === "error");
  const [first] = errors;
  const more = errors.length > 1 ? `\n(and ${errors.length - 1} more; run check-config)` : "";
  return first === undefined ? "rejected" : formatProblem(first) + more;
}

function fingerprints(files: readonly string[]): Map<string, string> {
  return new Map(files.map((file) => [file, fingerprint(file)]));
}

function fingerprintsOf(files: ReferencedFiles): Map<string, string> {
  return new Map([...files].map(([path, one]) => [path, one.fingerprint]));
}

/** Bytes; 0 if it cannot be read, which loading it reports. */
function sizeOf(file: string): number {
  try {
    return statSync(file).size;
  } catch {
    return 0;
  }
}
