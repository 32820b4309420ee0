import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadKeyEncryptionKeys } from "../../src/store/encryption/load-keys.ts";
import type { Store } from "../../src/store/store.ts";
import { backends } from "./backends.ts";
import { type LocalVault, startLocalVault } from "./local-vault.ts";
import { audit, connection, upstreamToken } from "./samples.ts";

describe("keys in Vault's transit engine", () => {
  let vault: LocalVault;
  let backend: Awaited<ReturnType<typeof backends.postgres>>;
  let folder: string;
  const open: Store[] = [];
  beforeEach(async () => {
    vault = await startLocalVault({ key: "mcp", namespace: "team" });
    backend = await backends.postgres();
    folder = await mkdtemp(join(tmpdir(), "vault-"));
  });
  afterEach(async () => {
    for (const store of open.splice(0)) await store.close();
    await Promise.all([vault.close(), backend.close(), rm(folder, { recursive: true, force: true })]);
  });

  const source = (over: object = {}) => ({
    kid: "vault",
    vault: {
      address: vault.url,
      key: "mcp",
      mount: "transit",
      namespace: "team",
      token: { env: "VAULT_TOKEN" },
      ...over,
    },
  });
  const load = (sources: Parameters<typeof loadKeyEncryptionKeys>[0] = [source()], env = {}) =>
    loadKeyEncryptionKeys(sources, { env: { VAULT_TOKEN: vault.token, ...env }, fetch });
  async function openStore(keys = load()): Promise<Store> {
    const store = await backend.open({ keys: await keys });
    open.push(store);
    return store;
  }
  const put = (store: Store, over = {}) =>
    store.upstreamTokens.put(upstreamToken(over), audit("upstream_token.obtained"));
  const keyIds = async () =>
    (await backend.query("select key_id from upstream_token order by route_id")).map((row) => row.key_id);

  it("encrypts each row with its own data key, which another replica has Vault unwrap once", async () => {
    const here = await openStore();
    await put(here);
    await put(here, { routeId: "second" });
    // And the row MAC key.
    expect(vault.requests.filter((path) => path.includes("datakey"))).toHaveLength(3);
    const there = await openStore();
    for (let reads = 0; reads < 3; reads++)
      expect(await there.upstreamTokens.find(connection)).toMatchObject({
        accessToken: "secret-access-token",
      });
    expect(vault.requests.filter((path) => path.includes("decrypt"))).toHaveLength(2);
    const [{ sealed }] = (await backend.query("select sealed from upstream_token limit 1")) as [
      { sealed: string },
    ];
    expect(Buffer.from(sealed.split(".")[0] ?? "", "base64url").toString()).toContain('"wrapped":"vault:v1:');
  });

  it("rotates online: new rows use the new version, rotate-keys rewrites the rest, then the old version can be removed", async () => {
    const store = await openStore();
    await put(store);
    vault.rotate();
    await put(store, { routeId: "second" });
    expect(await keyIds()).toEqual(["vault/v1", "vault/v2"]);
    expect(await store.rotateEncryptionKeys()).toMatchObject({ upstream_token: 1 });
    vault.forgetBefore(2);
    const fresh = await openStore();
    expect(await fresh.upstreamTokens.find(connection)).toMatchObject({ accessToken: "secret-access-token" });
    expect(await keyIds()).toEqual(["vault/v2", "vault/v2"]);
  });

  it("replaces keys in the environment, and is replaced by them", async () => {
    const local = { kid: "local", env: "LOCAL" };
    const env = { LOCAL: Buffer.alloc(32, 7).toString("base64url") };
    await put(await openStore(load([local], env)));
    const both = await openStore(load([source(), local], env));
    expect(await both.upstreamTokens.find(connection)).toBeDefined();
    await both.rotateEncryptionKeys();
    expect(await keyIds()).toEqual(["vault/v1"]);
    const back = await openStore(load([local, source()], env));
    await back.rotateEncryptionKeys();
    expect(await (await openStore(load([local], env))).upstreamTokens.find(connection)).toBeDefined();
  });

  it("is unavailable, without data loss, while Vault is sealed", async () => {
    await put(await openStore());
    const store = await openStore();
    vault.sealed = true;
    await expect(store.upstreamTokens.find(connection)).rejects.toMatchObject({ code: "store_unavailable" });
    await expect(put(store)).rejects.toMatchObject({ code: "store_unavailable" });
    vault.sealed = false;
    expect(await store.upstreamTokens.find(connection)).toBeDefined();
  });

  it("reads the token file again when Vault rejects the token, because an agent renews it", async () => {
    const file = join(folder, "token");
    await writeFile(file, `${vault.token}\n`);
    const store = await openStore(load([source({ token: { file } })]));
    vault.token = "hvs.renewed";
    await writeFile(file, vault.token);
    await put(store);
    expect(await store.upstreamTokens.find(connection)).toBeDefined();
  });

  it.each([
    [
      "an unknown key",
      { key: "other" },
      {},
      "encryption_key_missing",
      /has no key transit\/other; create it with/,
    ],
    [
      "no token",
      { token: { env: "NONE" } },
      {},
      "encryption_key_missing",
      /the variable NONE is empty or missing/,
    ],
    ["an invalid token", {}, { VAULT_TOKEN: "wrong" }, "store_unavailable", /vault keys/],
  ])("fails to start with %s, and names the cause", async (_, over, env, code, message) => {
    await expect(load([source(over)], env)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });
});
