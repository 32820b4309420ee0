import pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { removeExpiredEvents, removeExpiredKeys } from "../../src/audit-trail/audit-record.ts";
import { publicKeys } from "../../src/external-tokens/signing-keys.ts";
import { dayOf } from "../../src/store/audit-partitions.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openStore } from "../../src/store/open-store.ts";
import { startTrail, type TestTrail } from "../audit-trail/start-trail.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { logger, makeKeys } from "./backends.ts";
import { migrateTo } from "./migrate-to.ts";

const dayMs = 86_400_000;
const inDays = (days: number) => new Date(Date.now() + days * dayMs);

/** Days from the name of a partition. */
function lengthOf(name: string): number {
  const [, from = "", to = ""] = /_(\d{8})_(\d{8})$/.exec(name) ?? [];
  const [start, end] = [from, to].map((day) => Date.parse(day.replace(/(....)(..)(..)/, "$1-$2-$3")));
  return ((end ?? 0) - (start ?? 0)) / dayMs;
}

const partitionsOf = `
  select relname as name, (select count(*)::int from pg_index where indrelid = pg_class.oid) as indexes
  from pg_inherits join pg_class on pg_class.oid = inhrelid
  where inhparent = 'audit_event'::regclass order by relname`;

describe("a database with events of an earlier version", () => {
  let url: string;
  let close: () => Promise<void>;
  let client: pg.Client;
  beforeEach(async () => {
    ({ url, close } = await createTestDatabase({ empty: true }));
    await migrateTo("0020_stored_route_discovery", { url });
    client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query(`
      insert into audit_event (action, at) select 'policy.denied', now() - n * interval '1 hour' from generate_series(1, 500) n`);
  });
  afterEach(async () => {
    await client.end();
    await close();
  });

  it("is migrated without a scan, and divided afterwards; ids continue", async () => {
    await migrate({ url }, { skipIndexes: true });
    expect((await client.query(partitionsOf)).rows).toEqual([{ name: "audit_event_first", indexes: 3 }]);
    await migrate({ url });
    const { rows } = await client.query(partitionsOf);
    expect(rows.map(({ name }) => name)).toEqual([
      "audit_event_default",
      expect.stringMatching(/^audit_event_until_\d{8}$/),
    ]);
    expect(rows.map(({ indexes }) => indexes)).toEqual([3, 3]);
    const inserted = await client.query("insert into audit_event (action) values ('new') returning id, at");
    expect(inserted.rows).toEqual([{ id: "501", at: expect.any(Date) }]);
    expect((await client.query("select count(*)::int from audit_event")).rows).toEqual([{ count: 501 }]);
  });

  it("is divided in the background while others write and read, also after an interruption", async () => {
    await migrate({ url }, { skipIndexes: true });
    await client.query(
      "alter table audit_event_first add constraint audit_event_until_20260101 check (at < '2100-01-01') not valid",
    );
    const store = await openStore({ url, dir: "/nonexistent", keys: await makeKeys("k1"), logger });
    try {
      store.indexes.buildInBackground();
      await expect
        .poll(() => client.query(partitionsOf).then(({ rows }) => rows.length), { timeout: 60_000 })
        .toBe(2);
      await store.audit({ action: "grant.created" });
      expect((await store.auditEvents({ action: "grant.created", limit: 10 })).map(({ id }) => id)).toEqual([
        501,
      ]);
    } finally {
      await store.close();
    }
  });
});

describe.each(["postgres", "embedded"] as const)("partitions of the audit trail, on %s", (kind) => {
  let trail: TestTrail;
  beforeEach(async () => {
    trail = await startTrail(kind);
  });
  afterEach(() => trail.close());
  const partitions = () => trail.store.auditTrail.partitions;

  it("are created ahead, about fifty for the retention, and take over what came before them", async () => {
    const { names } = partitions();
    const migrated = await names();
    // A migrated database has enough for a week.
    await partitions().createAhead(new Date(), 365);
    expect(await names()).toEqual(migrated);
    await partitions().createAhead(inDays(15), 365);
    await partitions().createAhead(inDays(15), 365);
    await partitions().createAhead(inDays(20), 30);
    const created = (await names()).slice(1).map(lengthOf);
    expect(created).toEqual([...Array.from({ length: 2 }, () => 8), ...created.slice(2).map(() => 1)]);
    expect(created.slice(2).length).toBeGreaterThan(1);
  });

  it.runIf(kind === "postgres")(
    "take over the events that came before them; an insert never fails",
    async () => {
      const { auditTrail: own } = trail.store;
      const times = [0, 20, 80].map(inDays);
      for (const at of times)
        await trail.query(`insert into audit_event (action, at) values ('x', '${at.toISOString()}')`);
      expect(await trail.store.auditEvents({ limit: 10 })).toHaveLength(3);
      await partitions().createAhead(inDays(30), 365);
      expect((await own.eventTimes(0, 10)).map(({ at }) => at)).toEqual(times);
      expect(await partitions().removeExpired(dayOf(inDays(19)))).toEqual({ rows: 0, partitions: 2 });
      expect((await own.eventTimes(0, 10)).map(({ at }) => at)).toEqual(times.slice(1));
      // The last one is still in the default partition.
      expect(await partitions().removeExpired(dayOf(inDays(90)))).toMatchObject({ rows: 1 });
      expect(await own.eventTimes(0, 10)).toEqual([]);
    },
  );

  it("expired events are removed by day; the removal is signed and recorded, and the rest verifies", async () => {
    await trail.write(3);
    await trail.chain.round();
    await partitions().createAhead(inDays(30), 1);
    const { store } = trail;
    expect(await removeExpiredEvents(store.auditTrail, trail.chain, inDays(-1))).toBeUndefined();
    expect(await removeExpiredEvents(store.auditTrail, trail.chain, inDays(1))).toMatchObject({ batches: 2 });
    await trail.write(2);
    await trail.chain.round();
    const events = await store.auditEvents({ limit: 10 });
    expect(events.map(({ action }) => action)).toEqual(["policy.denied", "policy.denied"]);
    expect(await trail.verify()).toMatchObject({ findings: [] });
  });

  it("a replaced signing key is removed with the last batch that it can have signed, and not before", async () => {
    const { store, keys } = trail;
    const laterBy = (days: number, own = store.auditTrail) =>
      trail.newChain({ ...own, now: async () => inDays(days) });
    await trail.write(2);
    await trail.chain.round();
    await keys.rotate("audit", 0, 100 * 365 * 86_400);
    const kids = async () => (await publicKeys(store, "audit")).keys.length;
    expect(await removeExpiredKeys(trail)).toBe(0);
    expect(await kids()).toBe(2);
    await removeExpiredEvents(store.auditTrail, laterBy(2), inDays(1));
    expect(await removeExpiredKeys(trail)).toBe(1);
    expect(await kids()).toBe(1);
    expect(await trail.verify()).toMatchObject({ findings: [] });
  });
});
