import { setTimeout as delay } from "node:timers/promises";
import type { ConnectionKey } from "../model/connection.ts";
import type { AuditEvent } from "./audit-events.ts";
import type { Store } from "./store.ts";
import type { NewUpstreamToken, PutBasis, Standing } from "./upstream-tokens.ts";

/** Stores what a server has given, and will not give again, when the database is away for a moment. */
export interface Persistence {
  /**
   * Tries for ten minutes; no longer than ten seconds once closing.
   * @param write told whether it has been tried before: the world may be another one by then, or hold what was written
   * @throws what the last try threw
   */
  write<T>(write: (late: boolean) => Promise<T>): Promise<T>;
  /** Waits for what is under way, which is given up soon. */
  close(): Promise<void>;
}

/** How long a write is tried, and how long once the process is to end, ms. */
const persistMs = 10 * 60_000;
const closingMs = 10_000;

/** @param message logged for each try that failed */
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

/** What `hasLeft` compares with. */
export async function standingOf(
  { upstreamTokens, signInSessions }: Pick<Store, "upstreamTokens" | "signInSessions">,
  key: ConnectionKey,
): Promise<Standing> {
  const [person, disconnects] = await Promise.all([
    signInSessions.find(key.userId),
    upstreamTokens.disconnects(key),
  ]);
  return { signedIn: person !== undefined, disconnects };
}

/** Whether a person has disconnected, or gone, between these two. */
export function hasLeft(before: Standing, now: Standing): boolean {
  return (before.signedIn && !now.signedIn) || isDisconnectedSince(before.disconnects, now.disconnects);
}

/** Whether there is a disconnect in `now` that is not in `before`; both as `UpstreamTokens.disconnects`. */
export function isDisconnectedSince(before: readonly number[], now: readonly number[]): boolean {
  return now.some((one) => !before.includes(one));
}

/** What `putUnlessChanged` compares with; asked for before a token is obtained. */
export async function putBasis(
  store: Pick<Store, "upstreamTokens" | "signInSessions">,
  key: ConnectionKey,
): Promise<PutBasis> {
  const [token, standing] = await Promise.all([store.upstreamTokens.find(key), standingOf(store, key)]);
  return { version: token?.version, ...standing };
}

/**
 * Stores a token, late perhaps: then nothing that has been stored since gives way to it.
 * @returns whether it is stored; false: its person has disconnected since, or gone, or the connection has changed and this is late
 */
export async function putUnlessChanged(
  { upstreamTokens }: Pick<Store, "upstreamTokens">,
  token: NewUpstreamToken,
  audit: AuditEvent,
  { basis, late }: { readonly basis: PutBasis; readonly late: boolean },
): Promise<boolean> {
  const known = late ? basis : { ...basis, version: "any" as const };
  if ((await upstreamTokens.put(token, audit, known)) !== undefined) return true;
  // An earlier try may have come through, and only its answer been lost.
  return (await upstreamTokens.find(token))?.accessToken === token.accessToken;
}
