import { join } from "node:path";
import { type Kysely, sql } from "kysely";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openEmbeddedDatabase } from "../../src/store/embedded/embedded-database.ts";
import { migrateDatabase } from "../../src/store/migrate.ts";
import { openStore } from "../../src/store/open-store.ts";
import type { Tables } from "../../src/store/tables.ts";
import { copyEmbeddedTestDatabase } from "../support/embedded-database.ts";
import { type SmallDisk, smallDisk } from "../system/faults/small-disk.ts";
import { logger, makeKeys } from "./backends.ts";
import { audit, connection, upstreamToken } from "./samples.ts";

const probe = await smallDisk(1);
await probe?.close();

/** Mounting a small disk requires root. */
describe.skipIf(!probe)("the embedded database on a full disk", () => {
  let disk: SmallDisk;
  let dir: string;
  beforeEach(async () => {
    const mounted = await smallDisk(128);
    if (!mounted) throw new Error("no disk");
    disk = mounted;
    dir = join(disk.folder, "data");
    await copyEmbeddedTestDatabase(dir);
  });
  afterEach(() => disk?.close());

  it("rejects writes before its log could fail, answers reads, and recovers when there is space again", async () => {
    const open = async () => openStore({ dir, keys: await makeKeys("k1"), logger });
    const store = await open();
    const put = () => store.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
    await put();
    await disk.fill();
    for (let times = 0; times < 5; times++) {
      await expect(put()).rejects.toMatchObject({ code: "store_unavailable", cause: { code: "ENOSPC" } });
      await expect(store.upstreamTokens.recordUses([connection])).rejects.toMatchObject({
        cause: { code: "ENOSPC" },
      });
      expect((await store.upstreamTokens.find(connection))?.version).toBe(1);
    }
    await disk.empty();
    const version = await put();

    // Closed and opened with a full disk: it does not hang, and no data is lost.
    await disk.fill();
    await store.close();
    await expect(open()).rejects.toThrow("less than 20 MiB are free");
    await disk.empty();
    const next = await open();
    expect((await next.upstreamTokens.find(connection))?.version).toBe(version);
    await next.close();
  });

  describe("after a Postgres panic", () => {
    let database: Awaited<ReturnType<typeof openEmbeddedDatabase>>;
    let db: Kysely<Tables>;
    let seen: string[];
    beforeEach(async () => {
      database = await openEmbeddedDatabase(dir);
      db = database.db;
      await migrateDatabase(db);
      seen = [];
      const gap = () => seen.push("everything");
      await database.pglite.listen("changes", (payload) => seen.push(payload), gap);
      await write("before");
      await disk.fill();
      await sql`select pg_switch_wal()`.execute(db);
    });
    afterEach(() => database?.close());

    const write = (reason: string) =>
      sql`insert into audit_event (action, reason) select 'x', ${reason} from pg_notify('changes', ${reason})`.execute(
        db,
      );
    const writeInTransaction = (reason: string) =>
      db
        .transaction()
        .execute((tx) => tx.insertInto("audit_event").values({ action: "x", reason }).execute());
    const reasons = async () => {
      const rows = await db.selectFrom("audit_event").select("reason").orderBy("id").execute();
      return rows.map(({ reason }) => reason);
    };

    it("the instance is dropped, and a new one opened when there is space; no committed data is lost", async () => {
      await expect(write("last")).rejects.toMatchObject({ severity: "PANIC" });
      for (let times = 0; times < 3; times++) {
        await expect(write("failing")).rejects.toMatchObject({ code: /^(57P03|ENOSPC)$/ });
        await expect(writeInTransaction("failing")).rejects.toThrow();
        await expect(reasons()).rejects.toThrow();
      }
      await disk.empty();
      await expect
        .poll(() => writeInTransaction("again").then(() => "written", String), { timeout: 60_000 })
        .toBe("written");
      expect((await reasons()).filter((reason) => reason !== "last")).toEqual(["before", "again"]);
      // The last commits are unknown; the listener works on the new instance.
      await write("after");
      expect(seen).toEqual(["before", "everything", "after"]);
    });

    it("closes without an error, and the next process recovers it", async () => {
      await expect(write("last")).rejects.toMatchObject({ severity: "PANIC" });
      await database.close();
      await disk.empty();
      database = await openEmbeddedDatabase(dir);
      db = database.db;
      await write("after");
      expect((await reasons()).filter((reason) => reason !== "last")).toEqual(["before", "after"]);
    });
  });
});
