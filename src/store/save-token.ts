import { setTimeout as delay } from "node:timers/promises";
import type { ConnectionKey } from "../model/connection.ts";
import type { AuditEvent } from "./audit-events.ts";
import type { Store } from "./store.ts";
import type { NewUpstreamToken, PersonState, PutBasis } from "./upstream-tokens.ts";

/** Retries writes of tokens that a server issues only once, in case the database is briefly unavailable. */
export interface Persistence {
  /**
   * Retries for ten minutes; for at most ten seconds after `close`.
   * @param write `late` is true on a retry: the stored state may have changed, or already contain the write
   * @throws the error of the last attempt
   */
  write<T>(write: (late: boolean) => Promise<T>): Promise<T>;
  /** Waits for pending writes, which stop retrying soon. */
  close(): Promise<void>;
}

/** How long a write is retried, and how long during shutdown, ms. */
const persistMs = 10 * 60_000;
const closingMs = 10_000;

/** @param message logged for each failed attempt */
export function createPersistence(
  logger: { warn(about: object, message: string): void },
  message: string,
): Persistence {
  const underWay = new Set<Promise<unknown>>();
  let closing = false;

  async function persist<T>(write: (late: boolean) => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    for (let attempt = 1; ; attempt++) {
      try {
        return await write(attempt > 1);
      } catch (error) {
        if (performance.now() - startedAt > (closing ? closingMs : persistMs)) throw error;
        logger.warn({ attempt, err: error }, message);
        await delay(Math.min(100 * 2 ** attempt, 1000));
      }
    }
  }

  return {
    write(write) {
      const writing = persist(write);
      const settled = writing.then(
        () => {},
        () => {},
      );
      underWay.add(settled);
      void settled.then(() => underWay.delete(settled));
      return writing;
    },
    async close() {
      closing = true;
      await Promise.all(underWay);
    },
  };
}

/** The state that `hasDisconnectedOrSignedOut` compares with. */
export async function personState(
  { upstreamTokens, signInSessions }: Pick<Store, "upstreamTokens" | "signInSessions">,
  key: ConnectionKey,
): Promise<PersonState> {
  const [person, disconnects] = await Promise.all([
    signInSessions.find(key.userId),
    upstreamTokens.disconnects(key),
  ]);
  return { signedIn: person !== undefined, disconnects };
}

/** Whether a person has disconnected, or lost their sign-in record, between these two. */
export function hasDisconnectedOrSignedOut(before: PersonState, now: PersonState): boolean {
  return (before.signedIn && !now.signedIn) || isDisconnectedSince(before.disconnects, now.disconnects);
}

/** Whether `now` contains a disconnect that `before` does not; both as returned by `UpstreamTokens.disconnects`. */
export function isDisconnectedSince(before: readonly number[], now: readonly number[]): boolean {
  return now.some((one) => !before.includes(one));
}

/** The state that `putUnlessChanged` compares with; read before a token is obtained. */
export async function putBasis(
  store: Pick<Store, "upstreamTokens" | "signInSessions">,
  key: ConnectionKey,
): Promise<PutBasis> {
  const [token, person] = await Promise.all([store.upstreamTokens.find(key), personState(store, key)]);
  return { version: token?.version, ...person };
}

/**
 * Stores a token. A late write does not overwrite a newer token.
 * @returns whether it is stored; false: the person has disconnected or lost their sign-in record since, or the connection has changed
 * and the write is late
 */
export async function putUnlessChanged(
  { upstreamTokens }: Pick<Store, "upstreamTokens">,
  token: NewUpstreamToken,
  audit: AuditEvent,
  { basis, late }: { readonly basis: PutBasis; readonly late: boolean },
): Promise<boolean> {
  const known = late ? basis : { ...basis, version: "any" as const };
  if ((await upstreamTokens.put(token, audit, known)) !== undefined) return true;
  // An earlier attempt may have succeeded without a response.
  return (await upstreamTokens.find(token))?.accessToken === token.accessToken;
}
