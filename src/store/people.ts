import { type CacheLimits, createNotifiedCache } from "./notified-cache.ts";
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

/**
 * Caches people from sign-in records. Every write of a record notifies all replicas in its transaction (as a change of the person's
 * browser sessions, which earlier versions also send), so that changes take effect everywhere at once.
 */
export function createPeople(deps: {
  readonly store: Pick<Store, "signInSessions" | "notifications">;
  readonly limits: CacheLimits;
  readonly onEvict?: () => void;
}): People {
  const { store, limits, onEvict } = deps;

  async function read(userId: string): Promise<PersonFacts | undefined> {
    const record = await store.signInSessions.find(userId);
    if (!record) return undefined;
    const { email, name, groups, claims } = record;
    return { userId, email, name, groups, claims };
  }

  return createNotifiedCache<PersonFacts>({
    notifications: store.notifications,
    changedKey: (change) => (change.table === "browser_session" ? change.userId : undefined),
    ...{ read, sizeOf, limits, onEvict },
  });
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
