import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { RotationProgress } from "../../src/store/encryption/rotate.ts";
import type { Store } from "../../src/store/store.ts";
import { backends, makeKeys } from "./backends.ts";
import { audit, connection, upstreamToken } from "./samples.ts";

const { userId, upstream } = connection;
/** More than two batches. */
const count = 450;
const routes = Array.from({ length: count }, (_, n) => `r${String(n).padStart(3, "0")}`);

describe("a rotation of keys", () => {
  let backend: Awaited<ReturnType<typeof backends.postgres>>;
  const stores: Store[] = [];
  beforeEach(async () => {
    backend = await backends.postgres();
    const old = await open("k1");
    for (let n = 0; n < count; n += 50)
      await Promise.all(routes.slice(n, n + 50).map((routeId) => put(old, routeId)));
  });
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close();
    await backend.close();
  });

  async function open(...kids: string[]): Promise<Store> {
    const store = await backend.open({ keys: await makeKeys(...kids) });
    stores.push(store);
    return store;
  }
  const put = (store: Store, routeId: string) =>
    store.upstreamTokens.put(upstreamToken({ routeId }), audit("upstream_token.obtained"));
  const keysOf = async (table: string) =>
    Object.fromEntries(
      (await backend.query(`select key_id, count(*)::int as n from ${table} group by 1`)).map((row) => [
        row.key_id,
        row.n,
      ]),
    );
  const macKeys = async () =>
    (await backend.query("select kid from signing_key where purpose = 'row_mac' order by created_at")).map(
      ({ kid }) => String(kid),
    );
  const signedBy = async () =>
    new Set(
      (await backend.query("select split_part(mac, '.', 1) as kid from upstream_token")).map(
        ({ kid }) => kid,
      ),
    );
  /** Stops a rotation after `batches` batches. */
  function interruptAfter(batches: number) {
    const interruption = new AbortController();
    const seen: RotationProgress[] = [];
    const onProgress = (progress: RotationProgress) => {
      if (seen.push(progress) === batches) interruption.abort();
    };
    return { signal: interruption.signal, onProgress };
  }

  it("that was interrupted goes on where it stopped, with the same MAC key, in one process; rows stay readable in between", async () => {
    const store = await open("k2", "k1");
    await expect(store.rotateEncryptionKeys(interruptAfter(1))).rejects.toMatchObject({
      code: "interrupted",
      rewritten: { upstream_token: 200 },
    });
    expect(await keysOf("upstream_token")).toEqual({ k1: 250, k2: 200 });
    const [, fresh] = await macKeys();
    // By replicas of both orders.
    for (const replica of [await open("k1", "k2"), store])
      expect(await replica.upstreamTokens.listForUser(userId)).toHaveLength(count);

    const again: RotationProgress[] = [];
    const other = await open("k2", "k1");
    let second: unknown;
    const rewritten = await store.rotateEncryptionKeys({
      async onProgress(progress) {
        again.push(progress);
        second ??= await other.rotateEncryptionKeys().catch((error: unknown) => error);
      },
    });
    expect(second).toMatchObject({ code: "running" });
    expect(rewritten.upstream_token).toBe(250);
    expect(again[0]).toMatchObject({ step: "rotating", table: "upstream_token", rows: 200 });
    expect(again.at(-1)?.step).toBe("checking");
    expect(await keysOf("upstream_token")).toEqual({ k2: count });
    expect(await keysOf("signing_key")).toEqual({ k2: 1 });
    expect(await macKeys()).toEqual([fresh]);
    expect(await signedBy()).toEqual(new Set([fresh]));
    expect(await (await open("k2")).upstreamTokens.listForUser(userId)).toHaveLength(count);
    const events = await store.auditEvents({ action: "encryption_key.rotated", limit: 10 });
    expect(events.map(({ detail }) => [detail?.upstream_token, detail?.unfinished])).toEqual([
      [200, true],
      [250, undefined],
    ]);
  });

  it("finds a row that a replica without the newest key has written behind it", async () => {
    const [store, behind] = [await open("k2", "k1"), await open("k1", "k2")];
    let written = false;
    await store.rotateEncryptionKeys({
      async onProgress({ table, rows }) {
        if (written || table !== "upstream_token" || rows < 400) return;
        written = true;
        await put(behind, routes[0] ?? "");
      },
    });
    expect(written).toBe(true);
    expect(await keysOf("upstream_token")).toEqual({ k2: count });
  });

  it("does not end, and says so, while a replica goes on to write with an older key", async () => {
    const [store, behind] = [await open("k2", "k1"), await open("k1", "k2")];
    const before = await macKeys();
    const rotation = store.rotateEncryptionKeys({
      onProgress: async ({ table }) => {
        if (table === "stored_route") await put(behind, routes[0] ?? "");
      },
    });
    await expect(rotation).rejects.toMatchObject({ code: "older_key_in_use" });
    await expect(rotation).rejects.toThrow("does not have the newest key first in encryption.keys");
    // The older MAC key stays, too.
    expect(await macKeys()).toEqual([...before, expect.any(String)]);
    expect(await keysOf("upstream_token")).toEqual({ k1: 1, k2: count - 1 });
  });

  it("to a third key, begun while the one to the second is unfinished, covers all rows, with another MAC key", async () => {
    const store = await open("k2", "k1");
    await expect(store.rotateEncryptionKeys(interruptAfter(2))).rejects.toMatchObject({
      code: "interrupted",
    });
    const unfinished = await macKeys();
    const third = await open("k3", "k2", "k1");
    expect((await third.rotateEncryptionKeys()).upstream_token).toBe(count);
    expect(await keysOf("upstream_token")).toEqual({ k3: count });
    const [mac, ...others] = await macKeys();
    expect(others).toEqual([]);
    expect(unfinished).not.toContain(mac);
    expect(await (await open("k3")).upstreamTokens.listForUser(userId)).toHaveLength(count);
  });

  it("leaves out a row that changes while it is re-encrypted, and changes it later", async () => {
    const keys = await makeKeys("k2", "k1");
    const behind = await open("k1", "k2");
    let written = false;
    const store = await backend.open({
      keys: {
        ...keys,
        // Between reading and writing.
        async encryptionKey() {
          if (!written) {
            written = true;
            await put(behind, routes[7] ?? "");
            await behind.upstreamTokens.delete(
              { userId, routeId: routes[8] ?? "", upstream },
              audit("upstream_token.disconnected"),
            );
          }
          return keys.encryptionKey();
        },
      },
    });
    stores.push(store);
    await store.rotateEncryptionKeys();
    expect(await keysOf("upstream_token")).toEqual({ k2: count - 1 });
    expect(await (await open("k2")).upstreamTokens.listForUser(userId)).toHaveLength(count - 1);
  });
});
