import { sql, type Transaction } from "kysely";
import type { Tables } from "../tables.ts";

/** What changed, as told to every replica; payloads carry hashes and ids, never tokens. */
export type Change =
  | { readonly table: "upstream_token"; readonly key: string }
  | { readonly table: "grant"; readonly grantId: string }
  | { readonly table: "browser_session"; readonly userId: string }
  | { readonly table: "signing_key" }
  | { readonly table: "stored_route" }
  | { readonly table: "client_registration"; readonly issuer: string }
  /** The listener was away: whatever is cached may be stale. */
  | { readonly table: "everything" };

export interface Notifications {
  /** Calls `listener` for every change committed anywhere. Returns the way to stop. */
  subscribe(listener: (change: Change) => void): () => void;
  /** True only while the listener's own heartbeat came back within 500 ms; else caches must not be trusted. No I/O. */
  healthy(): boolean;
}

/** Those who want to hear of changes, and the way to tell them all. */
export interface NotificationHub {
  subscribe(listener: (change: Change) => void): () => void;
  /** Hands `change` to every subscriber; one that throws does not keep it from the others. */
  emit(change: Change): void;
  /** Takes in a notification's payload; one that cannot be read (a newer version's) makes everything suspect. */
  receive(payload: string): void;
}

const tables: ReadonlySet<string> = new Set<Change["table"]>([
  "upstream_token",
  "grant",
  "browser_session",
  "signing_key",
  "stored_route",
  "client_registration",
  "everything",
]);

/** @param onError told of a subscriber that threw */
export function notificationHub(onError: (error: unknown) => void): NotificationHub {
  const listeners = new Set<(change: Change) => void>();
  function emit(change: Change) {
    for (const listener of listeners) {
      try {
        listener(change);
      } catch (error) {
        onError(error);
      }
    }
  }
  return {
    subscribe(listener) {
      // A wrapper, so that subscribing the same function twice means two subscriptions.
      const entry = (change: Change) => listener(change);
      listeners.add(entry);
      return () => {
        listeners.delete(entry);
      };
    },
    emit,
    receive(payload) {
      emit(parseChange(payload) ?? { table: "everything" });
    },
  };
}

function parseChange(payload: string): Change | undefined {
  try {
    const change: Change = JSON.parse(payload);
    return tables.has(change.table) ? change : undefined;
  } catch {
    return undefined;
  }
}

/** Channel of LISTEN and NOTIFY on which every replica hears of every change. */
export const changeChannel = "envoy_mcp_auth_change";

/** Postgres refuses payloads of 8000 bytes and more. */
const maxPayloadBytes = 7_900;

/** Tells every replica of `change` when, and only if, `tx` commits. */
export async function notify(tx: Transaction<Tables>, change: Change): Promise<void> {
  const payload = JSON.stringify(change);
  const fits = Buffer.byteLength(payload) <= maxPayloadBytes;
  const sent = fits ? payload : JSON.stringify({ table: "everything" } satisfies Change);
  await sql`select pg_notify(${changeChannel}, ${sent})`.execute(tx);
}

/** `Notifications` with what `openStore` needs to start and stop it. */
export interface Listener extends Notifications {
  /** Resolves when notifications flow, or `waitMs` have passed; `deaf`: the connection is up, yet nothing arrives on it. */
  ready(waitMs: number): Promise<"hearing" | "deaf" | "away">;
  close(): Promise<void>;
}

/**
 * Listens from now on for the next change that `concerns` the caller, or for that everything may have changed; `heard` resolves
 * then, or after `waitMs`: a listener may be down, and a replica that was to bring the change may have died.
 */
export function nextChange(
  notifications: Pick<Notifications, "subscribe">,
  concerns: (change: Change) => boolean,
  waitMs: number,
): { readonly heard: Promise<void>; stop(): void } {
  const { promise: heard, resolve } = Promise.withResolvers<void>();
  const unsubscribe = notifications.subscribe((change) => {
    if (change.table === "everything" || concerns(change)) resolve();
  });
  const timer = setTimeout(resolve, waitMs);
  timer.unref();
  return {
    heard,
    stop() {
      clearTimeout(timer);
      unsubscribe();
    },
  };
}
