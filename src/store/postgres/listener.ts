import { randomUUID } from "node:crypto";
import { type Kysely, sql } from "kysely";
import pg from "pg";
import type { Logger } from "pino";
import type { DatabaseClock, StoreMetrics } from "../database.ts";
import { changeChannel, type Listener, notificationHub } from "../notifications/notifications.ts";
import type { Tables } from "../tables.ts";
import { type PostgresTls, postgresAddress } from "./pool.ts";

/** A heartbeat that takes longer to come back says nothing about the present. */
const roundTripMs = 500;
const maxUnderWay = 32;

/** Bookkeeping of notifications sent to oneself. Times are monotonic. */
export interface Heartbeats {
  /** Call right before sending; returns what to send. */
  sending(): string;
  /** The database has taken it. */
  sent(id: string): void;
  /** It came back; false: not ours, or from an earlier connection. */
  received(id: string): boolean;
  /** Forgets all: the connection is another. */
  reset(): void;
  /**
   * True only while all changes committed up to one interval and a round trip ago have surely arrived: notifications keep their
   * order, so those before a heartbeat that came back have come, too.
   */
  healthy(): boolean;
  /** How long a heartbeat that the database has taken has been missing. */
  silentMs(): number;
  /** Whether one comes back within `waitMs`. */
  first(waitMs: number): Promise<boolean>;
}

/** @param everyMs interval at which the caller sends */
export function heartbeats(everyMs: number): Heartbeats {
  let count = 0;
  const underWay = new Map<string, { sentAt: number; takenAt?: number }>();
  let freshest = Number.NEGATIVE_INFINITY;
  let waiting: (() => void)[] = [];
  return {
    sending() {
      const id = String(++count);
      // Sends that failed leave entries behind; a few are enough to tell silence from slowness.
      for (const oldest of underWay.keys()) if (underWay.size >= maxUnderWay) underWay.delete(oldest);
      underWay.set(id, { sentAt: performance.now() });
      return id;
    },
    sent(id) {
      const beat = underWay.get(id);
      if (beat) beat.takenAt = performance.now();
    },
    received(id) {
      const beat = underWay.get(id);
      if (beat === undefined) return false;
      // Those before it were lost or never sent.
      for (const earlier of underWay.keys()) if (Number(earlier) <= Number(id)) underWay.delete(earlier);
      if (performance.now() - beat.sentAt <= roundTripMs) freshest = beat.sentAt;
      for (const resolve of waiting) resolve();
      waiting = [];
      return true;
    },
    reset() {
      underWay.clear();
      freshest = Number.NEGATIVE_INFINITY;
    },
    healthy: () => performance.now() - freshest <= everyMs + roundTripMs,
    silentMs() {
      for (const { takenAt } of underWay.values())
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
/** A heartbeat that the database took this long ago will not come; the connection is replaced. */
const silenceMs = 2_000;
const reconnectMs = { first: 50, most: 1_000 };

/**
 * Listens on a connection of its own and proves by heartbeats, sent over another one, that changes arrive: a half-open socket
 * looks healthy for minutes. On every new connection subscribers hear `everything`, for what was said meanwhile is lost.
 * @param options.heart connection that heartbeats leave by; reaches the database the way writes do
 */
export function listenPostgres(options: {
  listenUrl: string;
  tls?: PostgresTls;
  heart: Kysely<Tables>;
  clock: DatabaseClock;
  timeoutMs: number;
  logger: Logger;
  metrics?: Pick<StoreMetrics, "storeListenerUp">;
}): Listener {
  const { logger, metrics, timeoutMs } = options;
  const hub = notificationHub((error) => logger.error({ err: error }, "a change listener failed"));
  const ownChannel = `envoy_mcp_auth_heartbeat_${randomUUID().replaceAll("-", "")}`;
  const stop = new AbortController();
  const beats = heartbeats(heartbeatEveryMs);
  let up = false;
  let deaf = false;
  let hurry: (() => void) | undefined;
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
      else if (beats.received(payload)) {
        deaf = false;
        report();
      }
    });
    try {
      await client.connect();
      await client.query(`listen "${changeChannel}"; listen "${ownChannel}"`);
      beats.reset();
      connection = { client, lost: end.resolve };
      // Who closed us while we were connecting found nothing to tell.
      if (stop.signal.aborted) return;
      hub.emit({ table: "everything" });
      beat();
      logger.debug({ reason: await end.promise }, "the notification connection ended");
    } finally {
      connection = undefined;
      beats.reset();
      report();
      // A black-holed connection takes no farewell.
      client.end().catch(() => {});
      client.connection.stream.destroy();
    }
  }

  async function listenForEver(): Promise<void> {
    let delay = reconnectMs.first;
    while (!stop.signal.aborted) {
      const startedAt = performance.now();
      await listenOnce().catch((error: unknown) =>
        logger.debug({ err: error instanceof Error ? error.message : error }, "cannot listen for changes"),
      );
      if (performance.now() - startedAt > 5_000) delay = reconnectMs.first;
      if (stop.signal.aborted) return;
      await new Promise<void>((resolve) => {
        hurry = resolve;
        setTimeout(resolve, delay * (0.5 + Math.random() / 2)).unref();
      });
      delay = Math.min(delay * 2, reconnectMs.most);
    }
  }

  let beating = false;
  async function beat(): Promise<void> {
    report();
    if (connection !== undefined && beats.silentMs() > silenceMs) {
      deaf = true;
      connection.lost("heartbeats were sent but did not come back");
    }
    if (beating || connection === undefined) return;
    beating = true;
    try {
      const sentAt = Date.now();
      const id = beats.sending();
      const { rows } = await sql<{ now: Date }>`
        select pg_notify(${ownChannel}, ${id}), clock_timestamp() as now`.execute(options.heart);
      beats.sent(id);
      if (rows[0]) options.clock.measure(rows[0].now, sentAt, Date.now());
    } catch (error) {
      logger.debug({ err: error instanceof Error ? error.message : error }, "cannot send a heartbeat");
    } finally {
      beating = false;
    }
  }

  const timer = setInterval(beat, heartbeatEveryMs);
  timer.unref();
  const done = listenForEver();
  return {
    subscribe: hub.subscribe,
    healthy: beats.healthy,
    async ready(waitMs) {
      if (await beats.first(waitMs)) return "hearing";
      return deaf || beats.silentMs() > 500 ? "deaf" : "away";
    },
    async close() {
      stop.abort();
      clearInterval(timer);
      connection?.lost("closing");
      hurry?.();
      await done;
    },
  };
}
