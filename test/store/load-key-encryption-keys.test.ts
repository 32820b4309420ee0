import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { encryption, type KeyEncryptionKeys } from "../../src/store/encryption/encryption.ts";
import { loadKeyEncryptionKeys } from "../../src/store/encryption/load-keys.ts";

const made = () => randomBytes(32).toString("base64url");

describe("key-encryption keys", () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "keys-"));
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  const encryptBy = (keys: KeyEncryptionKeys) => encryption(keys).encrypt("signing_key", ["k"], { n: 1 });
  const openBy = (keys: KeyEncryptionKeys, sealed: string) =>
    encryption(keys).decrypt("signing_key", ["k"], sealed);

  it("creates a key for the embedded database, readable only by its owner, and keeps it", async () => {
    const options = { env: {}, embeddedDir: join(dir, "new") };
    const { sealed } = await encryptBy(await loadKeyEncryptionKeys([], options));
    const file = join(dir, "new", "encryption-key");
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(sealed).not.toContain((await readFile(file, "utf8")).trim());
    expect(await openBy(await loadKeyEncryptionKeys([], options), sealed)).toEqual({ n: 1 });
  });

  it("still decrypts rows of that key after keys are configured", async () => {
    const { sealed } = await encryptBy(await loadKeyEncryptionKeys([], { env: {}, embeddedDir: dir }));
    const keys = await loadKeyEncryptionKeys([{ kid: "k1", env: "KEY" }], {
      env: { KEY: made() },
      embeddedDir: dir,
    });
    expect(keys.newest()).toBe("k1");
    expect(await openBy(keys, sealed)).toEqual({ n: 1 });
  });

  it("reads keys from the environment and from files; the first wraps, all unwrap", async () => {
    const env = { OLD: made() };
    await writeFile(join(dir, "new"), `${randomBytes(32).toString("base64")}\n`);
    const { sealed } = await encryptBy(await loadKeyEncryptionKeys([{ kid: "old", env: "OLD" }], { env }));
    const keys = await loadKeyEncryptionKeys(
      [
        { kid: "new", file: join(dir, "new") },
        { kid: "old", env: "OLD" },
      ],
      { env },
    );
    expect((await encryptBy(keys)).key_id).toBe("new");
    expect(await openBy(keys, sealed)).toEqual({ n: 1 });
  });

  it.each([
    ["no key with Postgres", [], "encryption_key_missing", /encryption\.keys: .*create one with/s],
    ["an unset variable", [{ kid: "a", env: "NONE" }], "encryption_key_missing", /keys\[0\]\.env: .*NONE/],
    ["a missing file", [{ kid: "a", file: "/none" }], "encryption_key_missing", /keys\[0\]\.file: .*\/none/],
    ["a key too short", [{ kid: "a", env: "SHORT" }], "encryption_key_invalid", /keys\[0\]: not 32 bytes/],
    ["a key that is not base64", [{ kid: "a", env: "ODD" }], "encryption_key_invalid", /keys\[0\]: not 32/],
    [
      "a duplicate name",
      [
        { kid: "a", env: "GOOD" },
        { kid: "a", env: "GOOD" },
      ],
      "encryption_key_invalid",
      /keys\[1\]\.kid: "a" is used twice/,
    ],
  ])("rejects %s, and names the field and the fix", async (_, sources, code, message) => {
    const env = { SHORT: "c2hvcnQ", ODD: "not base64 at all, though of a fair length", GOOD: made() };
    const refusal = loadKeyEncryptionKeys(sources, { env });
    await expect(refusal).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    await expect(refusal).rejects.not.toThrow(env.SHORT);
  });

  it("supports a key service that creates data keys and unwraps them later", async () => {
    const vault = new Map<string, Uint8Array>();
    const service: KeyEncryptionKeys = {
      newest: () => "transit-v1",
      async encryptionKey() {
        const key = randomBytes(32);
        const wrapped = `vault:v1:${vault.size}`;
        vault.set(wrapped, key);
        return { header: { alg: "dir", enc: "A256GCM", kid: "transit-v1", wrapped }, key };
      },
      decryptionKey: async ({ wrapped }) => vault.get(String(wrapped)),
    };
    const { sealed, key_id } = await encryptBy(service);
    expect(key_id).toBe("transit-v1");
    expect(await openBy(service, sealed)).toEqual({ n: 1 });
    vault.clear();
    await expect(openBy(service, sealed)).rejects.toMatchObject({ code: "encryption_key_unknown" });
  });
});
