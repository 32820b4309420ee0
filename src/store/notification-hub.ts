import type { Change } from "./store.ts";

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
