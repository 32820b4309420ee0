import { createHash } from "node:crypto";
import { CompactEncrypt, compactDecrypt, errors } from "jose";
import { DecryptionFailed } from "../errors.ts";
import type { Tables } from "../tables.ts";
import type { KeyEncryptionKeys } from "./key-encryption-keys.ts";

/** Encrypts row contents as compact JWEs (RFC 7516), each with a new A256GCM content key, bound to table and primary key. */
export interface Encryption {
  /** @param value JSON */
  encrypt(
    table: keyof Tables,
    primaryKey: readonly string[],
    value: unknown,
  ): Promise<{ sealed: string; key_id: string }>;
  /** @throws DecryptionFailed */
  decrypt<T>(table: keyof Tables, primaryKey: readonly string[], sealed: string): Promise<T>;
  /** Name of the key that `encrypt` uses now. */
  newestKey(): string;
}

/** Header parameter that binds a ciphertext to its row; part of the authenticated data (RFC 7516 section 5.1, step 14). */
const rowParameter = "row";

/** Identifies a row in ciphertexts and logs: SHA-256 of table and primary key. */
export function rowName(table: string, primaryKey: readonly string[]): string {
  return createHash("sha256")
    .update(JSON.stringify([table, ...primaryKey]))
    .digest("base64url");
}

/** @param keys the newest one wraps, any of them unwraps */
export function encryption(keys: KeyEncryptionKeys): Encryption {
  return {
    newestKey: () => keys.newest(),
    async encrypt(table, primaryKey, value) {
      const { header, key } = await keys.encryptionKey();
      const sealed = await new CompactEncrypt(new TextEncoder().encode(JSON.stringify(value)))
        .setProtectedHeader({ ...header, [rowParameter]: rowName(table, primaryKey) })
        .encrypt(key);
      return { sealed, key_id: header.kid };
    },
    async decrypt(table, primaryKey, sealed) {
      try {
        const { plaintext, protectedHeader } = await compactDecrypt(
          sealed,
          async (header) => {
            const key = await keys.decryptionKey(header);
            if (key === undefined) throw new DecryptionFailed("encryption_key_unknown", table);
            return key;
          },
          { keyManagementAlgorithms: ["A256KW", "dir"], contentEncryptionAlgorithms: ["A256GCM"] },
        );
        if (protectedHeader[rowParameter] !== rowName(table, primaryKey))
          throw new DecryptionFailed("ciphertext_moved", table);
        return JSON.parse(new TextDecoder().decode(plaintext));
      } catch (error) {
        if (error instanceof errors.JOSEError) throw new DecryptionFailed("ciphertext_damaged", table, error);
        throw error;
      }
    },
  };
}
