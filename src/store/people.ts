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
