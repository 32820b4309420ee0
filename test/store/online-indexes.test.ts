import pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createDatabase } from "../../src/store/database.ts";
import { type MigrateOptions, migrate } from "../../src/store/migrate.ts";
import { serverIndexes } from "../../src/store/postgres/build-indexes.ts";
import { openPostgres } from "../../src/store/postgres/pool.ts";
import type { Store } from "../../src/store/store.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { backends, logger } from "./backends.ts";
import { audit, connection, upstreamToken } from "./samples.ts";

const name = "test_upstream_token_route";
const indexes = { [name]: "on upstream_token (route_id) where refreshable" };
const wait = { timeout: 60_000, interval: 20 };

describe("an index of a migration", () => {
  let backend: Awaited<ReturnType<typeof backends.postgres>>;
  /** A transaction that has written to the table: a concurrent build waits for its end. */
  let writer: pg.Client;
  const stores: Store[] = [];
  beforeEach(async () => {
    backend = await backends.postgres();
    writer = new pg.Client({ connectionString: backend.url });
    await writer.connect();
  });
  afterEach(async () => {
    await writer.end();
    for (const store of stores.splice(0)) await store.close();
    await backend.close();
  });

  const open = async (metrics = createMetrics()) => {
    const store = await backend.open({ indexes, metrics });
    stores.push(store);
    return store;
  };
  const write = () => writer.query("begin; delete from upstream_token");
  const valid = async () =>
    (
      await backend.query(
        `select indisvalid from pg_index join pg_class on oid = indexrelid where relname = '${name}'`,
      )
    ).map(({ indisvalid }) => indisvalid);
  const building = async () => (await backend.query("select * from pg_stat_progress_create_index")).length;
  const run = async (options: MigrateOptions = {}) => {
    let outcome: string | undefined;
    await migrate({ url: backend.url }, { indexes, onIndexes: (how) => (outcome = how), ...options });
    return outcome;
  };

  it("is built in the background by one replica, while the store is ready and serves; a second migrate does not wait", async () => {
    await write();
    const metrics = createMetrics();
    const pending = async () =>
      /store_indexes_pending (\d)/.exec(await metrics.registry.metrics())?.[1] ?? "none";
    const [here, there] = [await open(metrics), await open(metrics)];
    for (const store of [here, there]) store.indexes.buildInBackground();
    await expect.poll(building, wait).toBe(1);
    expect(await here.indexes.built(name)).toBe(false);
    expect(await there.indexes.pending()).toEqual([name]);
    expect(await pending()).toBe("1");
    await there.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
    expect(await here.upstreamTokens.find(connection)).toBeDefined();

    expect(await run()).toBe("elsewhere");
    expect(await building()).toBe(1);
    await writer.query("rollback");
    await expect.poll(() => here.indexes.built(name), wait).toBe(true);
    expect(await there.indexes.built(name)).toBe(true);
    expect(await valid()).toEqual([true]);
    await expect.poll(pending, wait).toBe("0");
  });

  it("is built by migrate, which reports how far it is; an interrupted build ends on the server, too, and the next one repairs it", async () => {
    await write();
    const interruption = new AbortController();
    const interrupted = run({ signal: interruption.signal });
    await expect.poll(valid, wait).toEqual([false]);
    interruption.abort();
    expect(await interrupted).toBe("interrupted");
    expect(await building()).toBe(0);
    expect(await valid()).toEqual([false]);
    await writer.query("rollback");

    const store = await open();
    expect(await store.indexes.pending()).toEqual([name]);
    const said: string[] = [];
    expect(await run({ onProgress: ({ index, state }) => said.push(`${index} ${state}`) })).toBe("built");
    expect(said).toEqual([`${name} started`, `${name} built`]);
    expect(await valid()).toEqual([true]);
    expect(await store.indexes.built(name)).toBe(true);
  });

  it("is not built with --skip-indexes, nor by a version whose database a newer one has migrated", async () => {
    expect(await run({ skipIndexes: true })).toBe("skipped");
    await backend.query(`insert into kysely_migration values ('9999_newer', '${new Date().toISOString()}')`);
    expect(await run()).toBe("skipped");
    expect(await valid()).toEqual([]);
  });

  it("ends with a replica that stops while it builds", async () => {
    await write();
    const store = await open();
    store.indexes.buildInBackground();
    await expect.poll(building, wait).toBe(1);
    await store.close();
    // The server needs a moment to notice that its client has gone.
    await expect.poll(building, wait).toBe(0);
    expect(await valid()).toEqual([false]);
  });

  it("is tried again after a failure, which is logged", async () => {
    const lines: string[] = [];
    const db = openPostgres({ url: backend.url, size: 2, timeoutMs: 30_000, name: "test", logger });
    const database = createDatabase(db, { timeoutMs: 30_000, close: () => db.destroy() });
    const wanted = { [name]: "on upstream_token (not_yet)" };
    const built = serverIndexes(
      { url: backend.url, tls: {}, db, wanted },
      {
        ...{ database, retryMs: 10, isNewer: async () => false },
        logger: createLogger({ level: "info", destination: { write: (line) => lines.push(line) } }),
      },
    );
    try {
      built.buildInBackground();
      const failed = '"not_yet\\" does not exist';
      await expect.poll(() => lines.join(""), wait).toContain(failed);
      await backend.query("alter table upstream_token add column not_yet text");
      await expect.poll(() => built.built(name), wait).toBe(true);
      expect(lines.join("")).toContain("building an index failed; it is tried again");
      await expect.poll(() => lines.join(""), wait).toContain("an index was built");
    } finally {
      await built.stop();
      await database.close();
    }
  });
});
