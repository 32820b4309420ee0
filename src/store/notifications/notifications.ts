import { sql, type Transaction } from "kysely";
import { type ConnectionKey, connectionKeyName } from "../../model/connection.ts";
import type { Tables } from "../tables.ts";

/** A change that every replica is notified of; payloads contain hashes and ids, never tokens. */
export type Change =
  /** `version`: who has read this version has read the whole change. Absent: another change, or one of an earlier version of this program. */
  | { readonly table: "upstream_token"; readonly key: string; readonly version?: number }
  | { readonly table: "grant"; readonly grantId: string }
  | { readonly table: "browser_session"; readonly userId: string }
  | { readonly table: "signing_key" }
  | { readonly table: "stored_route" }
  | { readonly table: "client_registration"; readonly issuer: string }
  /** A message to the replica `to`, or to all (`*`); on its own channel. */
  | { readonly table: "replica_message"; readonly to: string }
  /** A session of an aggregated route, by the hash of its id; on its own channel. */
  | { readonly table: "aggregate_session"; readonly name: string }
  /** The listener was disconnected: all cached data may be stale. */
  | { readonly table: "everything" };

export interface Notifications {
  /** Calls `listener` for every change committed by any replica. Returns an unsubscribe function. */
  subscribe(listener: (change: Change) => void): () => void;
  /** True only while the listener's heartbeat returns within 500 ms; otherwise do not trust caches. No I/O. */
  healthy(): boolean;
}

/** Distributes changes to subscribers. */
export interface NotificationHub {
  subscribe(listener: (change: Change) => void): () => void;
  /** Passes `change` to every subscriber, even if one throws. */
  emit(change: Change): void;
  /** Parses and emits a notification's payload; an unknown payload (of a newer version) becomes `everything`. */
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

/** @param onError called when a subscriber throws */
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

/** LISTEN/NOTIFY channel for changes, which every replica listens on. */
export const changeChannel = "envoy_mcp_auth_change";

/** Channel for messages between replicas; the payload is the receiver. Not the other one: old replicas would clear their caches. */
export const messageChannel = "envoy_mcp_auth_message";

/** Channel for changed sessions of aggregated routes; the payload is the hash of the id. Not the first one, for the same reason. */
export const sessionChannel = "envoy_mcp_auth_session";

/** Postgres rejects payloads of 8000 bytes or more. */
const maxPayloadBytes = 7_900;

/** Notifies every replica of `change` when `tx` commits. */
export async function notify(tx: Transaction<Tables>, change: Change): Promise<void> {
  await sql`select pg_notify(${changeChannel}, ${payloadOf(change)})`.execute(tx);
}

/** The same for several changes, in one statement. */
export async function notifyAll(tx: Transaction<Tables>, changes: readonly Change[]): Promise<void> {
  if (changes.length === 0) return;
  const payloads = JSON.stringify(changes.map(payloadOf));
  await sql`select pg_notify(${changeChannel}, payload) from jsonb_array_elements_text(${payloads}::jsonb) as payload`.execute(
    tx,
  );
}

function payloadOf(change: Change): string {
  const payload = JSON.stringify(change);
  const fits = Buffer.byteLength(payload) <= maxPayloadBytes;
  return fits ? payload : JSON.stringify({ table: "everything" } satisfies Change);
}

/** The change of a connection; caches drop it. */
export function connectionChange(key: ConnectionKey) {
  return { table: "upstream_token", key: connectionKeyName(key) } as const;
}

/**
 * The same within the statement of the change, as a column of its last `select`: once for each row.
 * @param version column with the connection's version
 */
export function notifying(change: Extract<Change, { table: "upstream_token" }>, version?: string) {
  const text = JSON.stringify(change);
  const payload =
    version === undefined
      ? sql`${text}::text`
      : sql`(${text}::jsonb || jsonb_build_object('version', ${sql.ref(version)}))::text`;
  return sql<unknown>`pg_notify(${changeChannel}, ${payload})`.as("notified");
}

/** `Notifications` with functions to start and stop it, for `openStore`. */
export interface Listener extends Notifications {
  /** Resolves when notifications arrive, or after `waitMs`; `stalled`: the connection is up, but nothing arrives on it. */
  ready(waitMs: number): Promise<"connected" | "stalled" | "disconnected">;
  close(): Promise<void>;
}

/**
 * Waits for the next change that `concerns` the caller, or for `everything`; `arrived` resolves then, or after `waitMs`: the listener
 * may be down, or the replica that should make the change may have died.
 */
export function nextChange(
  notifications: Pick<Notifications, "subscribe">,
  concerns: (change: Change) => boolean,
  waitMs: number,
): { readonly arrived: Promise<void>; stop(): void } {
  const { promise: arrived, resolve } = Promise.withResolvers<void>();
  const unsubscribe = notifications.subscribe((change) => {
    if (change.table === "everything" || concerns(change)) resolve();
  });
  const timer = setTimeout(resolve, waitMs);
  timer.unref();
  return {
    arrived,
    stop() {
      clearTimeout(timer);
      unsubscribe();
    },
  };
}
