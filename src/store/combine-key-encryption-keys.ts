import type { KeyEncryptionKeys } from "./key-encryption-keys.ts";

/** Several sources as one: the first wraps, any unwraps. */
export function combineKeyEncryptionKeys(
  first: KeyEncryptionKeys,
  ...others: readonly KeyEncryptionKeys[]
): KeyEncryptionKeys {
  return {
    newest: () => first.newest(),
    encryptionKey: () => first.encryptionKey(),
    async decryptionKey(header) {
      for (const source of [first, ...others]) {
        const key = await source.decryptionKey(header);
        if (key !== undefined) return key;
      }
      return undefined;
    },
  };
}
