import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { loadKeyEncryptionKeys } from "../../src/store/encryption/load-keys.ts";
import type { Store } from "../../src/store/store.ts";
import { backends } from "./backends.ts";
import { type LocalAwsKms, startLocalAwsKms } from "./local-aws-kms.ts";
import { type LocalGoogleKms, startLocalGoogleKms } from "./local-google-kms.ts";
import { audit, connection, upstreamToken } from "./samples.ts";

type Sources = Parameters<typeof loadKeyEncryptionKeys>[0];

describe("keys in a cloud key service", () => {
  let aws: LocalAwsKms;
  let google: LocalGoogleKms;
  let backend: Awaited<ReturnType<typeof backends.postgres>>;
  let folder: string;
  const open: Store[] = [];
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "kms-"));
    [aws, google, backend] = await Promise.all([
      startLocalAwsKms(),
      startLocalGoogleKms(folder),
      backends.postgres(),
    ]);
    vi.stubEnv("AWS_ACCESS_KEY_ID", aws.credentials.accessKeyId);
    vi.stubEnv("AWS_SECRET_ACCESS_KEY", aws.credentials.secretAccessKey);
    vi.stubEnv("GOOGLE_APPLICATION_CREDENTIALS", google.credentials);
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    for (const store of open.splice(0)) await store.close();
    await Promise.all([aws.close(), google.close(), backend.close()]);
    await rm(folder, { recursive: true, force: true });
  });

  const sourceOf = {
    aws: (over = {}) => ({ kid: "cloud", awsKms: { key: aws.arn, endpoint: aws.url, ...over } }),
    google: (over = {}) => ({ kid: "cloud", googleKms: { key: google.key, endpoint: google.url, ...over } }),
  };
  const local = { kid: "local", env: "LOCAL" };
  const load = (...sources: Sources) =>
    loadKeyEncryptionKeys(sources, { env: { LOCAL: Buffer.alloc(32, 7).toString("base64url") }, fetch });
  async function openStore(...sources: Sources): Promise<Store> {
    const store = await backend.open({ keys: await load(...sources) });
    open.push(store);
    return store;
  }
  const put = (store: Store, over = {}) =>
    store.upstreamTokens.put(upstreamToken(over), audit("upstream_token.obtained"));
  const found = { accessToken: "secret-access-token" };
  const keyIds = async () =>
    (await backend.query("select key_id from upstream_token order by route_id")).map((row) => row.key_id);
  const unavailable = { code: "store_unavailable" };

  describe.each(["aws", "google"] as const)("of %s", (cloud) => {
    const source = () => sourceOf[cloud]();
    const wraps = () =>
      (cloud === "aws" ? aws : google).requests.filter((one) => /GenerateDataKey|encrypt/.test(one));
    const unwraps = () =>
      (cloud === "aws" ? aws : google).requests.filter((one) => /Decrypt|decrypt/.test(one));
    const kid = cloud === "aws" ? "cloud" : "cloud/v1";

    it("encrypt each row with its own data key, which another replica has unwrapped once", async () => {
      const here = await openStore(source());
      const before = wraps().length;
      await put(here);
      await put(here, { routeId: "second" });
      // And the row MAC key.
      expect(wraps().length - before).toBe(3);
      expect(await keyIds()).toEqual([kid, kid]);
      const there = await openStore(source());
      for (let reads = 0; reads < 3; reads++)
        expect(await there.upstreamTokens.find(connection)).toMatchObject(found);
      expect(unwraps()).toHaveLength(2);
    });

    it("decrypt rows from before a rotation, and replace and are replaced by other keys", async () => {
      await put(await openStore(local));
      const both = await openStore(source(), local);
      await both.rotateEncryptionKeys();
      expect(await keyIds()).toEqual([kid]);
      (cloud === "aws" ? aws : google).rotate();
      const fresh = await openStore(source());
      expect(await fresh.upstreamTokens.find(connection)).toMatchObject(found);
      const back = await openStore(local, source());
      await back.rotateEncryptionKeys();
      expect(await (await openStore(local)).upstreamTokens.find(connection)).toMatchObject(found);
    });

    it("are unavailable, without data loss, while the service is down", async () => {
      await put(await openStore(source()));
      const store = await openStore(source());
      if (cloud === "aws") aws.failing = { status: 500, name: "KMSInternalException" };
      else google.failing = 503;
      await expect(store.upstreamTokens.find(connection)).rejects.toMatchObject(unavailable);
      await expect(put(store)).rejects.toMatchObject(unavailable);
      await expect(load(source())).rejects.toMatchObject(unavailable);
      aws.failing = undefined;
      google.failing = undefined;
      expect(await store.upstreamTokens.find(connection)).toMatchObject(found);
    });

    it.each([
      ["empty", ""],
      ["longer than any", "A".repeat(10_000)],
      ["no ciphertext of the service", "AAAA"],
    ])(
      "are not that of a row whose wrapped key is %s: whoever wrote it must not make the service look down",
      async (_, wrapped) => {
        const keys = await load(source());
        await expect(
          keys.decryptionKey({ alg: "dir", enc: "A256GCM", kid, wrapped }),
        ).resolves.toBeUndefined();
      },
    );

    it("do not decrypt another application's ciphertext with the same key, nor a ciphertext of another row", async () => {
      const store = await openStore(source());
      await put(store);
      await put(store, { routeId: "second", accessToken: "other" });
      await backend.query(
        `update upstream_token set sealed = (select sealed from upstream_token where route_id = 'second') where route_id = 'files'`,
      );
      const there = await openStore(source());
      await expect(there.upstreamTokens.find(connection)).rejects.toMatchObject({ code: "ciphertext_moved" });
    });
  });

  it("of google: new rows use the new version, rotate-keys rewrites the rest, then the old version can be disabled", async () => {
    const store = await openStore(sourceOf.google());
    await put(store);
    google.rotate();
    await put(store, { routeId: "second" });
    expect(await keyIds()).toEqual(["cloud/v1", "cloud/v2"]);
    const stale = await openStore(sourceOf.google());
    google.disable(1);
    await expect(stale.upstreamTokens.find(connection)).rejects.toMatchObject(unavailable);
    expect(await store.rotateEncryptionKeys()).toMatchObject({ upstream_token: 1 });
    expect(await stale.upstreamTokens.find(connection)).toMatchObject(found);
  });

  it("of aws: by alias, too, and with the region that is set", async () => {
    const source = sourceOf.aws({ key: "alias/mcp", region: "eu-central-1" });
    const store = await openStore(source);
    await put(store);
    expect(await (await openStore(source)).upstreamTokens.find(connection)).toMatchObject(found);
  });

  it.each([
    ["aws", { key: "arn:aws:kms:eu-central-1:111122223333:key/none" }, "NotFoundException"],
    ["google", { key: "projects/p/locations/l/keyRings/r/cryptoKeys/none" }, "404 NOT_FOUND"],
  ] as const)(
    "of %s: fail to start with a missing key, and name the required permissions",
    async (cloud, over, word) => {
      await expect(load(sourceOf[cloud](over))).rejects.toMatchObject({
        code: "encryption_key_missing",
        message: expect.stringMatching(
          new RegExp(`${over.key}.*${word}.*(kms:GenerateDataKey|EncrypterDecrypter)`),
        ),
      });
    },
  );

  it("of aws: fail to start if AWS rejects the credentials, or the key is disabled", async () => {
    aws.enabled = false;
    await expect(load(sourceOf.aws())).rejects.toThrow("DisabledException");
    vi.stubEnv("AWS_SECRET_ACCESS_KEY", "wrong");
    await expect(load(sourceOf.aws())).rejects.toThrow("InvalidSignatureException");
  });
});
