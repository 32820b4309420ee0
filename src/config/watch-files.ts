import { type FSWatcher, realpathSync, watch } from "node:fs";
import { dirname } from "node:path";

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
