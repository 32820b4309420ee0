import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Notifications } from "../../src/store/notifications/notifications.ts";
import { openStore } from "../../src/store/open-store.ts";
import type { Store } from "../../src/store/store.ts";
import { createMetrics, type Metrics } from "../../src/telemetry/metrics.ts";
import { scraped } from "../support/scraped.ts";
import { type PostgresServer, startPostgres } from "../support/start-postgres.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import { logger, makeKeys } from "./backends.ts";
import { changes } from "./changes.ts";
import { dropNotifications } from "./drop-notifications.ts";
import { audit, connection, upstreamToken } from "./samples.ts";

/** Polls `healthy`, which has no events. */
const becomes = (notifications: Notifications, healthy: boolean) =>
  expect.poll(() => notifications.healthy(), { interval: 20, timeout: 60_000 }).toBe(healthy);

async function allUnavailable(attempts: Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(attempts))
    expect(result).toMatchObject({ status: "rejected", reason: { code: "store_unavailable" } });
}

describe("when Postgres fails", () => {
  let server: PostgresServer;
  let direct: { host: string; port: number };
  let operations: TcpProxy;
  let listening: TcpProxy;
  let store: Store;
  let metrics: Metrics;

  const through = (proxy: TcpProxy) => {
    const url = new URL(server.url);
    url.port = String(proxy.port);
    return url.href;
  };
  const open = async (over = {}) =>
    openStore({
      url: through(operations),
      listenUrl: through(listening),
      dir: "/nonexistent",
      keys: await makeKeys("k1"),
      logger,
      operationTimeoutMs: 3_000,
      ...over,
    });

  beforeAll(async () => {
    server = await startPostgres();
    const { hostname: host, port } = new URL(server.url);
    direct = { host, port: Number(port) };
  });
  afterAll(() => server?.close());
  beforeEach(async () => {
    operations = await startTcpProxy(direct);
    listening = await startTcpProxy(direct);
    metrics = createMetrics();
    store = await open({ metrics });
  });
  afterEach(async () => {
    await operations.restore();
    await listening.restore();
    await store.close();
    await operations.close();
    await listening.close();
  });

  it("fails every operation with store_unavailable while it is down, and works when it is back", async () => {
    await store.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
    await server.stop();
    await allUnavailable([
      store.upstreamTokens.find(connection),
      store.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained")),
      store.authorizationServerRecords.grantIsLive("g"),
      store.authorizationServerRecords.consume("AuthorizationCode", "c"),
      store.ping(),
      open(),
    ]);
    await becomes(store.notifications, false);
    await server.start();
    expect(await store.upstreamTokens.find(connection)).toMatchObject({ accessToken: "secret-access-token" });
    await becomes(store.notifications, true);
  });

  it("survives a database restart with idle connections, without an error for the next caller", async () => {
    await Promise.all(Array.from({ length: 10 }, () => store.ping()));
    await server.stop();
    await server.start();
    await Promise.all(Array.from({ length: 20 }, () => store.ping()));
  });

  it("fails within its timeout if no response arrives, and recovers when the network does", async () => {
    await Promise.all(Array.from({ length: 10 }, () => store.ping()));
    operations.blackHole();
    await allUnavailable(
      Array.from({ length: 30 }, (_, n) =>
        n % 2
          ? store.ping()
          : store.upstreamTokens.put(upstreamToken({ userId: "lost" }), audit("upstream_token.obtained")),
      ),
    );
    await operations.restore();
    await expect
      .poll(
        () =>
          store.ping().then(
            () => true,
            () => false,
          ),
        { timeout: 60_000 },
      )
      .toBe(true);
    expect(await store.upstreamTokens.listForUser("lost")).toEqual([]);
  });

  it("the duration of each operation is measured by name, including operations that time out", async () => {
    await store.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
    await store.upstreamTokens.find(connection);
    operations.blackHole();
    await allUnavailable([store.upstreamTokens.find(connection)]);
    const counts = await scraped(metrics, "store_duration_seconds_count");
    expect(counts).toMatchObject({
      'operation="upstream_token.put"': 1,
      'operation="upstream_token.find"': 2,
    });
    const sums = await scraped(metrics, "store_duration_seconds_sum");
    expect(sums['operation="upstream_token.find"']).toBeGreaterThanOrEqual(0.99);
    expect(sums['operation="upstream_token.find"']).toBeLessThan(10);
  });

  it("fails excess reads at once while the database is slow, and accepts all when it has recovered", async () => {
    operations.blackHole();
    const find = () => store.upstreamTokens.find(connection);
    await allUnavailable(Array.from({ length: 100 }, find));
    const reasons = (await Promise.allSettled(Array.from({ length: 100 }, find))).map(
      (result) => result.status === "rejected" && String(result.reason.cause),
    );
    expect(reasons.filter((reason) => reason === "Error: too many concurrent reads")).toHaveLength(50);
    await operations.restore();
    await expect.poll(() => find().then(() => "answers", String), { timeout: 60_000 }).toBe("answers");
    await Promise.all(Array.from({ length: 20 }, find));
  });

  it("closes on a dead network", async () => {
    const other = await open();
    await Promise.all(Array.from({ length: 5 }, () => other.ping()));
    operations.blackHole();
    listening.blackHole();
    await other.close();
    await allUnavailable([other.ping()]);
  });

  it("closes while its listener connects", async () => {
    let connecting = false;
    let closing: Promise<void> | undefined;
    const onFirstByte = (chunk: Buffer) => {
      if (connecting) closing ??= other.close();
      return chunk;
    };
    const wire = await startTcpProxy(direct, { fromTarget: () => onFirstByte });
    const other = await open({ listenUrl: through(wire) });
    await wire.cut();
    connecting = true;
    await wire.restore();
    await expect.poll(() => closing !== undefined, { timeout: 60_000 }).toBe(true);
    await closing;
    await wire.close();
  });

  it("does not trust caches while the listener is disconnected, and notifies `everything` afterwards", async () => {
    const listenerUp = () => scraped(metrics, "store_listener_up");
    await becomes(store.notifications, true);
    expect(await listenerUp()).toEqual({ "": 1 });
    await listening.cut();
    await becomes(store.notifications, false);
    expect(await listenerUp()).toEqual({ "": 0 });
    const { next, seen } = changes(store);
    await listening.restore();
    expect(await next).toEqual({ table: "everything" });
    await becomes(store.notifications, true);
    await store.authorizationServerRecords.upsert({ model: "Grant", id: "g", payload: {} });
    const after = changes(store);
    await store.authorizationServerRecords.revokeGrant("g", audit("grant.revoked"));
    expect(await after.next).toEqual({ table: "grant", grantId: "g" });
    expect(seen.at(-1)).toEqual({ table: "grant", grantId: "g" });
  });

  it("detects a listener that is connected but stalled", async () => {
    await becomes(store.notifications, true);
    listening.blackHole();
    await becomes(store.notifications, false);
    await store.ping();
    const { next } = changes(store);
    await listening.restore();
    expect(await next).toEqual({ table: "everything" });
    await becomes(store.notifications, true);
  });

  it("fails to start behind a transaction-mode pooler without a separate listen URL", async () => {
    const pooler = await startTcpProxy(direct, { fromTarget: dropNotifications });
    try {
      await expect(open({ url: through(pooler), listenUrl: undefined })).rejects.toMatchObject({
        code: "listen_unsupported",
        message: expect.stringContaining("DATABASE_LISTEN_URL"),
      });
      const pooled = await open({ url: through(pooler) });
      await becomes(pooled.notifications, true);
      await pooled.close();
    } finally {
      await pooler.close();
    }
  });
});
