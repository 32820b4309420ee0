import { LRUCache } from "lru-cache";
import { keysOfGroups } from "../util/keys-of-groups.ts";
import type { Change, Notifications } from "./notifications/notifications.ts";

/** Values of the store by key, cached while change notifications arrive. */
export interface NotifiedCache<T> {
  /**
   * Synchronous, without I/O, if the value is cached and notifications are healthy; the same object until it changes. Undefined: the
   * store has none. Rejects if the store is unavailable.
   */
  find(key: string): T | undefined | Promise<T | undefined>;
  /** Asks the store, bypassing the cache. */
  read(key: string): Promise<T | undefined>;
  /** Forgets a value that this process has changed: its notification arrives later. */
  forget(key: string): void;
  close(): void;
}

/** Bounds of a cache. */
export interface CacheLimits {
  /** Preallocated; absent: only `bytes` limits the cache. */
  readonly entries?: number;
  /** Approximate. */
  readonly bytes: number;
}

/** Values that a change of something else ends. */
export interface ValueGroups<T> {
  readonly of: (value: T) => string;
  /** The group whose values a change affects; undefined: none. */
  readonly changed: (change: Change) => string | undefined;
}

/** A read in progress; `stale`: the value has changed since it began, so the result must not be cached. */
interface Read {
  readonly key: string;
  stale: boolean;
}

/**
 * A cache that every replica invalidates when one of them commits a change.
 * @param deps.read the value as the store has it now
 * @param deps.changedKey the key whose value a change affects; undefined: none
 * @param deps.sizeOf upper bound in bytes
 */
export function createNotifiedCache<T extends object>(deps: {
  readonly notifications: Notifications;
  readonly read: (key: string) => Promise<T | undefined>;
  readonly changedKey: (change: Change) => string | undefined;
  readonly groups?: ValueGroups<T>;
  readonly sizeOf: (value: T) => number;
  readonly limits: CacheLimits;
  readonly onEvict?: () => void;
}): NotifiedCache<T> {
  const { notifications, limits, groups, onEvict } = deps;
  const keysOf = keysOfGroups();
  const known = new LRUCache<string, T>({
    ...(limits.entries !== undefined && { max: limits.entries }),
    maxSize: limits.bytes,
    sizeCalculation: deps.sizeOf,
    dispose: (value, key, reason) => {
      if (groups) keysOf.remove(groups.of(value), key);
      if (reason === "evict") onEvict?.();
    },
  });
  const reads = new Set<Read>();
  const shared = new Map<string, Promise<T | undefined>>();

  const unsubscribe = notifications.subscribe((change) => {
    if (change.table === "everything") {
      known.clear();
      shared.clear();
      for (const read of reads) read.stale = true;
      return;
    }
    const key = deps.changedKey(change);
    if (key !== undefined) forget(key);
    const group = groups?.changed(change);
    if (group === undefined) return;
    for (const one of keysOf.of(group)) forget(one);
    // What is being read may belong to it.
    shared.clear();
    for (const read of reads) read.stale = true;
  });

  function forget(key: string): void {
    known.delete(key);
    shared.delete(key);
    for (const read of reads) if (read.key === key) read.stale = true;
  }

  async function read(key: string): Promise<T | undefined> {
    const reading: Read = { key, stale: false };
    reads.add(reading);
    try {
      const value = await deps.read(key);
      if (value !== undefined && !reading.stale) {
        known.set(key, value);
        // Unless it is too large to be kept.
        if (groups && known.has(key)) keysOf.add(groups.of(value), key);
      }
      return value;
    } finally {
      reads.delete(reading);
    }
  }

  /** Concurrent reads of the same key share the result, unless a change arrives in between. */
  function readOnce(key: string): Promise<T | undefined> {
    const running = shared.get(key);
    if (running) return running;
    const started = read(key).finally(() => {
      if (shared.get(key) === started) shared.delete(key);
    });
    shared.set(key, started);
    return started;
  }

  return {
    find(key) {
      if (!notifications.healthy()) return read(key);
      return known.get(key) ?? readOnce(key);
    },
    read,
    forget,
    close() {
      unsubscribe();
      known.clear();
    },
  };
}
