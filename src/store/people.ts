import { LRUCache } from "lru-cache";
import type { SignInSession } from "./sign-in-sessions.ts";
import type { Store } from "./store.ts";

/** A person's attributes as last reported by the company's provider: the only source for policy. */
export type PersonFacts = Pick<SignInSession, "userId" | "email" | "name" | "groups" | "claims">;

/** People by user id, cached while change notifications arrive. */
export interface People {
  /**
   * A person from their sign-in record; synchronous, without I/O, if cached and notifications are healthy. The same object until the
   * record changes. Undefined: there is no record, or it was deleted. Rejects if the store is unavailable.
   */
  find(userId: string): PersonFacts | undefined | Promise<PersonFacts | undefined>;
  /** Asks the store, bypassing the cache. */
  read(userId: string): Promise<PersonFacts | undefined>;
  close(): void;
}

/** A read in progress; `stale`: the record has changed since it began, so the result must not be cached. */
interface Read {
  readonly userId: string;
  stale: boolean;
}

/**
 * Caches people from sign-in records. Every write of a record notifies all replicas in its transaction (as a change of the person's
 * browser sessions, which earlier versions also send), so that changes take effect everywhere at once.
 * @param limits.entries maximum number of cached people
 * @param limits.bytes approximate size limit
 */
export function createPeople(deps: {
  readonly store: Pick<Store, "signInSessions" | "notifications">;
  readonly limits: { readonly entries: number; readonly bytes: number };
  readonly onEvict?: () => void;
}): People {
  const { store, limits, onEvict } = deps;
  const known = new LRUCache<string, PersonFacts>({
    max: limits.entries,
    maxSize: limits.bytes,
    sizeCalculation: sizeOf,
    dispose: (_person, _userId, reason) => {
      if (reason === "evict") onEvict?.();
    },
  });
  const reads = new Set<Read>();
  const shared = new Map<string, Promise<PersonFacts | undefined>>();

  const unsubscribe = store.notifications.subscribe((change) => {
    if (change.table === "everything") {
      known.clear();
      shared.clear();
      for (const read of reads) read.stale = true;
    } else if (change.table === "browser_session") {
      const { userId } = change;
      known.delete(userId);
      shared.delete(userId);
      for (const read of reads) if (read.userId === userId) read.stale = true;
    }
  });

  async function read(userId: string): Promise<PersonFacts | undefined> {
    const reading: Read = { userId, stale: false };
    reads.add(reading);
    try {
      const record = await store.signInSessions.find(userId);
      if (!record) return undefined;
      const { email, name, groups, claims } = record;
      const person: PersonFacts = { userId, email, name, groups, claims };
      if (!reading.stale) known.set(userId, person);
      return person;
    } finally {
      reads.delete(reading);
    }
  }

  /** Concurrent reads of the same person share the result, unless a change arrives in between. */
  function readOnce(userId: string): Promise<PersonFacts | undefined> {
    const running = shared.get(userId);
    if (running) return running;
    const started = read(userId).finally(() => {
      if (shared.get(userId) === started) shared.delete(userId);
    });
    shared.set(userId, started);
    return started;
  }

  return {
    find(userId) {
      if (!store.notifications.healthy()) return read(userId);
      return known.get(userId) ?? readOnce(userId);
    },
    read,
    close() {
      unsubscribe();
      known.clear();
    },
  };
}

/** Upper bound in bytes: a character may take two bytes, and every value has a header. */
function sizeOf(person: PersonFacts): number {
  return 1024 + 3 * JSON.stringify(person).length;
}

/** Index of a cache's keys by group: evicting a group takes time proportional to its entries, not to the cache. */
export interface KeysOfGroups {
  /** Call after adding the key to the cache. */
  add(group: string, key: string): void;
  /** Call when the cache disposes of the key, for any reason. */
  remove(group: string, key: string): void;
  /** Returns a copy: the cache may dispose of keys in the meantime. */
  of(group: string): readonly string[];
}

/** Creates an empty index. */
export function keysOfGroups(): KeysOfGroups {
  const groups = new Map<string, Set<string>>();
  return {
    add(group, key) {
      const keys = groups.get(group) ?? new Set();
      groups.set(group, keys.add(key));
    },
    remove(group, key) {
      const keys = groups.get(group);
      keys?.delete(key);
      if (keys?.size === 0) groups.delete(group);
    },
    of: (group) => [...(groups.get(group) ?? [])],
  };
}
