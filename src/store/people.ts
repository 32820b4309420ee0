import { LRUCache } from "lru-cache";
import type { SignInSession } from "./sign-in-sessions.ts";
import type { Store } from "./store.ts";

/** Who a person is, as the company's provider last said: the only source of what policy knows about them. */
export type PersonFacts = Pick<SignInSession, "userId" | "email" | "name" | "groups" | "claims">;

/** People by user id, from memory while change notifications arrive. */
export interface People {
  /**
   * A person as their sign-in record has them; no promise and no I/O when they are known and notifications are healthy.
   * The same object until the record changes. Undefined: there is no such record (any more).
   * Rejects when the store cannot be asked.
   */
  find(userId: string): PersonFacts | undefined | Promise<PersonFacts | undefined>;
  /** Asks the store, whatever is known. */
  read(userId: string): Promise<PersonFacts | undefined>;
  close(): void;
}

/** Reads in progress, and whose record has changed since each began: what it brings must not be kept then. */
interface Read {
  readonly userId: string;
  stale: boolean;
}

/**
 * Keeps what sign-in records say of people. Every write of a record notifies all replicas in its own transaction (as a change of
 * the person's browser sessions, which earlier versions send, too), so a change acts everywhere at once.
 * @param limits.entries people kept
 * @param limits.bytes what is kept of them, roughly
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

  /** Whoever asks for somebody who is being read already shares the answer, unless a change has come in between. */
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

/** Bytes, from above: texts may take two a character, and every value has a header. */
function sizeOf(person: PersonFacts): number {
  return 1024 + 3 * JSON.stringify(person).length;
}

/** Which keys of a cache belong to whom: forgetting somebody takes as long as they have entries, however many others there are. */
export interface KeysOfGroups {
  /** To be called once the cache holds the key. */
  add(group: string, key: string): void;
  /** To be called when the cache disposes of the key, for whatever reason. */
  remove(group: string, key: string): void;
  /** A copy: the cache may dispose of them in the meantime. */
  of(group: string): readonly string[];
}

/** An index beside a cache. */
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
