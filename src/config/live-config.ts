import { createHash } from "node:crypto";
import { type FSWatcher, readFileSync, realpathSync, statSync, watch } from "node:fs";
import { dirname, resolve } from "node:path";
import type { Config } from "./config.ts";
import { loadConfig } from "./load-config.ts";
import { formatProblem, InvalidConfig, type Problem } from "./problems.ts";
import { type CurrentRoutes, createRouteTable, type RouteTable } from "./route-table.ts";
import { buildStoredRoutes, type StoredEntry, type StoredRoutesBuilt } from "./stored-routes.ts";

/** Quiet this long, ms, before a change counts: an editor writes in several steps. */
const settleMs = 100;
/** Where the file system tells nothing (network mounts), files are looked at this often, ms. */
const pollMs = 5000;

/** What watches a set of files. */
export interface FileWatch {
  /** Watches these files from now on, in place of the earlier ones. */
  files(paths: readonly string[]): void;
  close(): void;
}

/**
 * Calls `changed` after something happened in the folders of the files (and of what they are links to): folders, since editors
 * and Kubernetes replace files by rename, and a watch on the file itself would keep looking at the old one. It may call without
 * a change; compare contents. Never keeps the process alive.
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
        // A folder that goes away; polling goes on and finds it again.
        watcher.on("error", () => {
          watcher.close();
          watchers.delete(folder);
        });
        watchers.set(folder, watcher);
      } catch {
        // Not there, or out of inotify watches: polling has to do.
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

/** The configuration in force, replaced as a whole when the file changes. */
export interface LiveConfig {
  readonly current: CurrentRoutes;
  /** After a good file took effect. `needsRestart` names the sections that it changes in vain: they are read at start only. */
  onChange(listener: (table: RouteTable, needsRestart: readonly string[]) => void): () => void;
  /** After a bad one was refused, with its problems in words. */
  onProblem(listener: (problem: string) => void): () => void;
  /** Routes kept in the database, in place of those set before; they take effect at once, as one swap. */
  setStoredRoutes(entries: readonly StoredEntry[]): void;
  /** Why stored routes are not in force, by id: they contradict the file, or no longer fit this version. */
  storedProblems(): ReadonlyMap<string, readonly Problem[]>;
  /** What `entries` would do in place of the stored routes in force, without doing it. */
  tryStoredRoutes(entries: readonly StoredEntry[]): StoredRoutesBuilt;
  /** Of the newest file: empty while the newest one is in force and has no warnings. */
  lastProblems(): readonly Problem[];
  /** Why the newest file was refused; `undefined` while the newest one is in force. */
  lastProblem(): string | undefined;
  close(): void;
}

/** The part of `telemetry/`'s metrics that is counted here. */
interface ConfigMetrics {
  readonly configLoads: { inc(labels: { outcome: "loaded" | "rejected" }): void };
  readonly configLastLoadSuccessful: { set(value: number): void };
  readonly routes: { set(labels: { source: "file" | "database" }, value: number): void };
  readonly routesRejected: { set(value: number): void };
}

/** Doors, routers and stores are made of these once: they stay as they were until a restart, for everybody who asks. */
const readAtStart = ({ listen, paths, database, encryption, audit, log }: Config) => ({
  listen,
  paths,
  database,
  encryption,
  audit,
  log,
});

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
}): LiveConfig {
  const { file, env, metrics, listeners } = deps;
  const changes = new Set<(table: RouteTable, needsRestart: readonly string[]) => void>();
  const refusals = new Set<(problem: string) => void>();

  // Taken before the file is read: a change in between is then seen as one.
  const before = fingerprints([resolve(file)]);
  const first = loadConfig(file, env, { listeners });
  if (!first.ok) throw new InvalidConfig(first.problems);
  const started = readAtStart(first.config);
  let inFile = first.config;
  let stored: readonly StoredEntry[] = [];
  let storedProblems: ReadonlyMap<string, readonly Problem[]> = new Map();
  let table = putTogether(undefined);
  let problems = first.problems;
  let refusal: string | undefined;
  let watched = [resolve(file), ...first.referencedFiles];
  let seen = new Map([...before, ...fingerprints(first.referencedFiles)]);
  metrics.configLoads.inc({ outcome: "loaded" });
  metrics.configLastLoadSuccessful.set(1);

  const watch = watchFiles(() => {
    const now = fingerprints(watched);
    if (watched.every((path) => now.get(path) === seen.get(path))) return;
    const loaded = loadConfig(file, env, { listeners });
    watched = [resolve(file), ...loaded.referencedFiles];
    watch.files(watched);
    seen = new Map([...fingerprints(watched), ...now]);
    problems = loaded.problems;
    metrics.configLoads.inc({ outcome: loaded.ok ? "loaded" : "rejected" });
    metrics.configLastLoadSuccessful.set(loaded.ok ? 1 : 0);
    if (!loaded.ok) {
      refusal = inWords(loaded.problems);
      for (const listener of refusals) listener(refusal);
      return;
    }
    refusal = undefined;
    const wanted = new Map(Object.entries(readAtStart(loaded.config)));
    const needsRestart = Object.entries(started)
      .filter(([section, value]) => JSON.stringify(value) !== JSON.stringify(wanted.get(section)))
      .map(([section]) => section);
    // Where Envoy finds us follows `listen`, unless written.
    const sidecar = (needsRestart.includes("listen") ? inFile : loaded.config).envoy.sidecar;
    inFile = { ...loaded.config, ...started, envoy: { ...loaded.config.envoy, sidecar } };
    table = putTogether(table);
    for (const listener of changes) listener(table, needsRestart);
  });
  watch.files(watched);

  function putTogether(before: RouteTable | undefined): RouteTable {
    const { config, problems: refused } = buildStoredRoutes(inFile, stored);
    storedProblems = refused;
    metrics.routes.set({ source: "file" }, inFile.routes.length);
    metrics.routes.set({ source: "database" }, config.routes.length - inFile.routes.length);
    metrics.routesRejected.set(refused.size);
    return createRouteTable(config, before);
  }

  return {
    current: () => table,
    setStoredRoutes(entries) {
      stored = entries;
      table = putTogether(table);
      for (const listener of changes) listener(table, []);
    },
    storedProblems: () => storedProblems,
    tryStoredRoutes: (entries) => buildStoredRoutes(inFile, entries),
    onChange: (listener) => subscribe(changes, listener),
    onProblem: (listener) => subscribe(refusals, listener),
    lastProblems: () => problems,
    lastProblem: () => refusal,
    close: () => watch.close(),
  };
}

function subscribe<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

function inWords(problems: readonly Problem[]): string {
  const errors = problems.filter(({ severity }) => severity === "error");
  const [first] = errors;
  const more = errors.length > 1 ? `\n(and ${errors.length - 1} more; run check-config)` : "";
  return first === undefined ? "refused" : formatProblem(first) + more;
}

/** Contents, and who may read them: `chmod o-r` cures an inline secret. */
function fingerprints(files: readonly string[]): Map<string, string> {
  const fingerprint = (file: string) => {
    try {
      return createHash("sha256")
        .update(`${statSync(file).mode}\0`)
        .update(readFileSync(file))
        .digest("hex");
    } catch {
      return "absent";
    }
  };
  return new Map(files.map((file) => [file, fingerprint(file)]));
}
