import { randomUUID } from "node:crypto";
import { type Kysely, sql } from "kysely";
import pg from "pg";
import type { Logger } from "pino";
import type { DatabaseClock, StoreMetrics } from "../database.ts";
import {
  changeChannel,
  type Listener,
  messageChannel,
  notificationHub,
  sessionChannel,
} from "../notifications/notifications.ts";
import type { Tables } from "../tables.ts";
import { type PostgresTls, postgresAddress } from "./pool.ts";

/** A heartbeat that takes longer to return does not prove that the connection is healthy now. */
const roundTripMs = 500;
const maxPending = 32;

/** Tracks notifications that the listener sends to itself. Times are monotonic. */
export interface Heartbeats {
  /** Call right before sending; returns the payload. */
  sending(): string;
  /** Call when the database has accepted it. */
  sent(id: string): void;
  /** Call when it returns; false: unknown, or from an earlier connection. */
  received(id: string): boolean;
  /** Resets the state for a new connection. */
  reset(): void;
  /**
   * True only while all changes committed up to one interval and one round trip ago have arrived: notifications keep their order, so
   * all notifications before a returned heartbeat have arrived.
   */
  healthy(): boolean;
  /** How long an accepted heartbeat has been missing, ms. */
  silentMs(): number;
  /** Whether a heartbeat returns within `waitMs`. */
  first(waitMs: number): Promise<boolean>;
}

/** @param everyMs interval at which the caller sends */
export function heartbeats(everyMs: number): Heartbeats {
  let count = 0;
  const pending = new Map<string, { sentAt: number; takenAt?: number }>();
  let freshest = Number.NEGATIVE_INFINITY;
  let waiting: (() => void)[] = [];
  return {
    sending() {
      const id = String(++count);
      // Failed sends leave entries behind; a few are enough to distinguish silence from slowness.
      for (const oldest of pending.keys()) if (pending.size >= maxPending) pending.delete(oldest);
      pending.set(id, { sentAt: performance.now() });
      return id;
    },
    sent(id) {
      const beat = pending.get(id);
      if (beat) beat.takenAt = performance.now();
    },
    received(id) {
      const beat = pending.get(id);
      if (beat === undefined) return false;
      // Earlier heartbeats were lost or never sent.
      for (const earlier of pending.keys()) if (Number(earlier) <= Number(id)) pending.delete(earlier);
      if (performance.now() - beat.sentAt <= roundTripMs) freshest = beat.sentAt;
      for (const resolve of waiting) resolve();
      waiting = [];
      return true;
    },
    reset() {
      pending.clear();
      freshest = Number.NEGATIVE_INFINITY;
    },
    healthy: () => performance.now() - freshest <= everyMs + roundTripMs,
    silentMs() {
      for (const { takenAt } of pending.values())
        if (takenAt !== undefined) return performance.now() - takenAt;
      return 0;
    },
    first: (waitMs) =>
      new Promise((resolve) => {
        waiting.push(() => resolve(true));
        setTimeout(() => resolve(false), waitMs).unref();
      }),
  };
}

const heartbeatEveryMs = 250;
/** If an accepted heartbeat is missing for this long, the connection is replaced. */
const silenceMs = 2_000;
const reconnectMs = { first: 50, max: 1_000 };

/**
 * Listens on a dedicated connection, and verifies with heartbeats over another connection that changes arrive: a half-open socket
 * looks healthy for minutes. On every new connection, subscribers get `everything`, because notifications in the meantime are lost.
 * @param options.heartbeatDb connection for heartbeats; reaches the database the same way as writes
 */
export function listenPostgres(options: {
  listenUrl: string;
  tls?: PostgresTls;
  heartbeatDb: Kysely<Tables>;
  clock: DatabaseClock;
  timeoutMs: number;
  logger: Logger;
  metrics?: Pick<StoreMetrics, "storeListenerUp">;
}): Listener {
  const { logger, metrics, timeoutMs } = options;
  const hub = notificationHub((error) => logger.error({ err: error }, "change listener failed"));
  const ownChannel = `envoy_mcp_auth_heartbeat_${randomUUID().replaceAll("-", "")}`;
  const stop = new AbortController();
  const beats = heartbeats(heartbeatEveryMs);
  let up = false;
  let stalled = false;
  let skipDelay: (() => void) | undefined;
  let connection: { client: pg.Client; lost: (reason: string) => void } | undefined;

  function report() {
    const healthy = beats.healthy();
    metrics?.storeListenerUp.set(healthy ? 1 : 0);
    if (healthy === up) return;
    up = healthy;
    if (healthy) logger.info("change notifications arrive");
    else if (!stop.signal.aborted)
      logger.warn("change notifications do not arrive in time; every check asks the store until they do");
  }

  async function listenOnce(): Promise<void> {
    const client = new pg.Client({
      ...postgresAddress(options.listenUrl, options.tls ?? {}),
      connectionTimeoutMillis: timeoutMs,
      keepAlive: true,
      keepAliveInitialDelayMillis: 5_000,
      query_timeout: timeoutMs,
      application_name: "envoy-mcp-auth listener",
    });
    const end = Promise.withResolvers<string>();
    client.on("error", (error) => end.resolve(error.message));
    client.on("end", () => end.resolve("closed"));
    client.on("notification", ({ channel, payload = "" }) => {
      if (channel === changeChannel) hub.receive(payload);
      else if (channel === messageChannel) hub.emit({ table: "replica_message", to: payload });
      else if (channel === sessionChannel) hub.emit({ table: "aggregate_session", name: payload });
      else if (beats.received(payload)) {
        stalled = false;
        report();
      }
    });
    try {
      await client.connect();
      const channels = [changeChannel, messageChannel, sessionChannel, ownChannel];
      await client.query(channels.map((channel) => `listen "${channel}"`).join("; "));
      beats.reset();
      connection = { client, lost: end.resolve };
      // `close` was called while connecting.
      if (stop.signal.aborted) return;
      hub.emit({ table: "everything" });
      sendHeartbeat();
      logger.debug({ reason: await end.promise }, "notification connection ended");
    } finally {
      connection = undefined;
      beats.reset();
      report();
      // On a dead network, `end` alone would not close the socket.
      client.end().catch(() => {});
      client.connection.stream.destroy();
    }
  }

  async function keepListening(): Promise<void> {
    let delay = reconnectMs.first;
    while (!stop.signal.aborted) {
      const startedAt = performance.now();
      await listenOnce().catch((error: unknown) =>
        logger.debug({ err: error instanceof Error ? error.message : error }, "cannot listen for changes"),
      );
      if (performance.now() - startedAt > 5_000) delay = reconnectMs.first;
      if (stop.signal.aborted) return;
      await new Promise<void>((resolve) => {
        skipDelay = resolve;
        setTimeout(resolve, delay * (0.5 + Math.random() / 2)).unref();
      });
      delay = Math.min(delay * 2, reconnectMs.max);
    }
  }

  let beating = false;
  async function sendHeartbeat(): Promise<void> {
    report();
    if (connection !== undefined && beats.silentMs() > silenceMs) {
      stalled = true;
      connection.lost("heartbeats were sent but did not return");
    }
    if (beating || connection === undefined) return;
    beating = true;
    try {
      const sentAt = Date.now();
      const id = beats.sending();
      const { rows } = await sql<{ now: Date }>`
        select pg_notify(${ownChannel}, ${id}), clock_timestamp() as now`.execute(options.heartbeatDb);
      beats.sent(id);
      if (rows[0]) options.clock.measure(rows[0].now, sentAt, Date.now());
    } catch (error) {
      logger.debug({ err: error instanceof Error ? error.message : error }, "cannot send a heartbeat");
    } finally {
      beating = false;
    }
  }

  const timer = setInterval(sendHeartbeat, heartbeatEveryMs);
  timer.unref();
  const done = keepListening();
  return {
    subscribe: hub.subscribe,
    healthy: beats.healthy,
    async ready(waitMs) {
      if (await beats.first(waitMs)) return "connected";
      return stalled || beats.silentMs() > 500 ? "stalled" : "disconnected";
    },
    async close() {
      stop.abort();
      clearInterval(timer);
      connection?.lost("closing");
      skipDelay?.();
      await done;
    },
  };
}
