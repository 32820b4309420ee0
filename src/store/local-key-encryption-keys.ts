import type { CryptoKey } from "jose";
import type { KeyEncryptionKeys } from "./key-encryption-keys.ts";

/**
 * Key-encryption keys held in memory, not extractable. The first is the newest and wraps; any unwraps.
 * @param keys 32 bytes each
 */
export async function localKeyEncryptionKeys(
  keys: readonly { readonly kid: string; readonly bytes: Uint8Array }[],
): Promise<KeyEncryptionKeys> {
  const byId = new Map<string, CryptoKey>();
  for (const { kid, bytes } of keys)
    byId.set(
      kid,
      await crypto.subtle.importKey("raw", Uint8Array.from(bytes), "AES-KW", false, ["wrapKey", "unwrapKey"]),
    );
  const [newest] = byId;
  if (newest === undefined) throw new TypeError("at least one key-encryption key is needed");
  const [kid, key] = newest;
  return {
    newest: () => kid,
    encryptionKey: async () => ({ header: { alg: "A256KW", enc: "A256GCM", kid }, key }),
    decryptionKey: async (header) =>
      header.alg === "A256KW" && typeof header.kid === "string" ? byId.get(header.kid) : undefined,
  };
}
