import { createHmac } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { encryption } from "../../src/store/encryption/encryption.ts";
import { boundColumns, canonical } from "../../src/store/mac-columns.ts";
import type { Store } from "../../src/store/store.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";
import { backends, makeKeys } from "./backends.ts";
import { audit, connection, upstreamToken } from "./samples.ts";

const known = Buffer.alloc(32, 7);
const routeIds = ["r0", "r1", "r2"];

describe("a rotation of keys, while others work against it", () => {
  let backend: Awaited<ReturnType<typeof backends.postgres>>;
  const stores: Store[] = [];
  beforeEach(async () => {
    backend = await backends.postgres();
  });
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close();
    await backend.close();
  });

  async function open(kids: readonly string[], more?: Parameters<typeof backend.open>[0]): Promise<Store> {
    const store = await backend.open({ ...more, keys: await makeKeys(...kids) });
    stores.push(store);
    return store;
  }
  const put = (store: Store, routeId: string) =>
    store.upstreamTokens.put(upstreamToken({ routeId }), audit("upstream_token.obtained"));
  const find = (store: Store, routeId: string) => store.upstreamTokens.find({ ...connection, routeId });

  /** A MAC key that the attacker knows, encrypted with the key-encryption key that has leaked. */
  async function plant(kid: string, createdAt: number): Promise<void> {
    const leaked = encryption(await makeKeys("k1"));
    const value = { k: known.toString("base64url"), createdAt, bound: true, tables: [] };
    const { sealed, key_id } = await leaked.encrypt("signing_key", [kid], value);
    await backend.query(`insert into signing_key (kid, purpose, sealed, key_id, created_at, active_at)
      values ('${kid}', 'row_mac', '${sealed}', '${key_id}', now(), now())`);
  }

  /** Changes a connection, with a MAC by this key. */
  async function forge(routeId: string, kid: string, key: Buffer): Promise<void> {
    const [row] = await backend.query(`select * from upstream_token where route_id = '${routeId}'`);
    const forged = { ...row, refreshable: false };
    const values = boundColumns.upstream_token.columns.map((column) =>
      canonical(Reflect.get(forged, column)),
    );
    const mac = createHmac("sha256", key).update(JSON.stringify(["upstream_token", ...values]));
    await backend.query(`update upstream_token set refreshable = false, mac = '${kid}.${mac.digest("base64url")}'
      where route_id = '${routeId}'`);
  }

  it("leaves an attacker with a leaked key-encryption key and access to the database no key that signs rows", async () => {
    const first = await open(["k1"]);
    for (const routeId of [...routeIds, "r3", "changed"]) await put(first, routeId);
    await backend.query("update upstream_token set refreshable = false where route_id = 'changed'");
    const leaked = encryption(await makeKeys("k1"));
    const [old] = await backend.query("select kid, sealed from signing_key where purpose = 'row_mac'");
    const { k } = await leaked.decrypt<{ k: string }>("signing_key", [String(old?.kid)], String(old?.sealed));
    await plant("planted before, newest", 9e15);
    await backend.query(`insert into row_pass (kind, owner, target, position, lease_until)
      values ('rotate_keys', 'nobody', 'no json', '{"table": "no table"}', now() + interval '1 year')`);

    const command = await open(["k2", "k1"]);
    let seen = 0;
    await command.rotateEncryptionKeys({
      async onProgress({ step }) {
        if (seen++ === 0) await plant("planted meanwhile", 1);
        else if (step === "checking")
          await backend.query("create table if not exists copied as select * from signing_key");
      },
    });
    expect(
      await backend.query(
        "select distinct split_part(mac, '.', 1) as kid, key_id from upstream_token where route_id like 'r%'",
      ),
    ).toEqual(await backend.query("select kid, 'k2' as key_id from signing_key where purpose = 'row_mac'"));
    // A row that counts as absent is not re-encrypted.
    expect(await backend.query("select key_id from upstream_token where route_id = 'changed'")).toEqual([
      { key_id: "k1" },
    ]);

    await backend.query("insert into signing_key select * from copied on conflict do nothing");
    const after = await open(["k2"]);
    expect(await find(after, "r3")).toBeDefined();
    await forge("r0", String(old?.kid), Buffer.from(k, "base64url"));
    await forge("r1", "planted before, newest", known);
    await forge("r2", "planted meanwhile", known);
    for (const routeId of routeIds) expect(await find(after, routeId), routeId).toBeUndefined();
    expect(await find(after, "r3")).toBeDefined();
  });

  it("does not lose what a replica writes that gets no notifications", async () => {
    const url = new URL(backend.url);
    const listening = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
    url.hostname = "127.0.0.1";
    url.port = String(listening.port);
    const deaf = await open(["k2", "k1"], { listenUrl: url.href });
    await put(deaf, "r0");
    await listening.cut();
    await expect.poll(() => deaf.notifications.healthy(), { timeout: 60_000 }).toBe(false);
    const command = await open(["k2", "k1"]);
    await command.rotateEncryptionKeys();
    await put(deaf, "r0");
    expect(await find(command, "r0")).toBeDefined();
    await listening.close();
  });
});
