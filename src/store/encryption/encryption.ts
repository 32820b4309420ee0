import { createHash } from "node:crypto";
import {
  CompactEncrypt,
  type CompactJWEHeaderParameters,
  type CryptoKey,
  compactDecrypt,
  errors,
} from "jose";
import { boundedCache } from "../../util/bounded-cache.ts";
import { DecryptionFailed, StoreUnavailable } from "../errors.ts";
import type { Tables } from "../tables.ts";

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

const missingKey = (kid: unknown) =>
  `; list the key with the kid ${JSON.stringify(kid)} in encryption.keys again, or let its key service accept it (docs/reliability.md#rotating-keys)`;
const otherKey =
  "; if a key of encryption.keys has changed, give it a new kid, and list the former key under its own";

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
            if (key === undefined)
              throw new DecryptionFailed("encryption_key_unknown", table, undefined, missingKey(header.kid));
            return key;
          },
          { keyManagementAlgorithms: ["A256KW", "dir"], contentEncryptionAlgorithms: ["A256GCM"] },
        );
        if (protectedHeader[rowParameter] !== rowName(table, primaryKey))
          throw new DecryptionFailed("ciphertext_moved", table);
        return JSON.parse(new TextDecoder().decode(plaintext));
      } catch (error) {
        if (error instanceof errors.JOSEError)
          throw new DecryptionFailed("ciphertext_damaged", table, error, otherKey);
        throw error;
      }
    },
  };
}

/** The key for a new ciphertext, and the JWE header parameters by which `decryptionKey` finds it. */
export interface EncryptionKey {
  readonly header: CompactJWEHeaderParameters & { readonly alg: "A256KW" | "dir"; readonly kid: string };
  readonly key: CryptoKey | Uint8Array;
}

/**
 * A source of key-encryption keys (RFC 7516 section 2). A local key is returned with `alg: "A256KW"`: jose generates a new content
 * key for every write and wraps it. A key service (Vault transit, AWS or Google Cloud KMS) returns a new data key with `alg: "dir"`,
 * and its wrapped form in a custom header parameter, to unwrap it later.
 */
export interface KeyEncryptionKeys {
  /** Name of the key for new ciphertexts; `rotate-keys` rewrites rows that name another key. */
  newest(): string;
  encryptionKey(): Promise<EncryptionKey>;
  /** The key of a ciphertext with this header, among all known keys; undefined: none of them. */
  decryptionKey(header: CompactJWEHeaderParameters): Promise<CryptoKey | Uint8Array | undefined>;
}

/**
 * Key-encryption keys in memory, not extractable. The first one is the newest and wraps; any of them unwraps.
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
  if (newest === undefined) throw new TypeError("at least one key-encryption key is required");
  const [kid, key] = newest;
  return {
    newest: () => kid,
    encryptionKey: async () => ({ header: { alg: "A256KW", enc: "A256GCM", kid }, key }),
    decryptionKey: async (header) =>
      header.alg === "A256KW" && typeof header.kid === "string" ? byId.get(header.kid) : undefined,
  };
}

/** Combines sources: the first one wraps, any of them unwraps. */
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

/** A key service creates data keys and unwraps them. The wrapping keys never leave it. */
export interface KeyService {
  /** Whether a ciphertext that names this key belongs to this service. */
  owns(kid: string): boolean;
  /** Name of its key, with the version if the service reports it: `rotate-keys` rewrites rows that name another key. */
  newest(): string;
  /** Creates a key of 32 bytes, with its wrapped form to store. */
  make(): Promise<{ readonly kid: string; readonly key: Uint8Array; readonly wrapped: string }>;
  /** Undefined: the service permanently rejects the ciphertext. @throws StoreUnavailable */
  unwrap(wrapped: string): Promise<Uint8Array | undefined>;
}

const keyBytes = 32;

/** Maximum number of unwrapped data keys in memory, which avoid a call when a row is read again. */
const maxDataKeys = 20_000;

/** Key-encryption keys of a key service: each ciphertext has its own data key, stored wrapped in the JWE's header. */
export function keyServiceKeys(service: KeyService): KeyEncryptionKeys {
  const dataKeys = boundedCache<string, Uint8Array>(maxDataKeys);
  return {
    newest: () => service.newest(),
    async encryptionKey() {
      const { kid, key, wrapped } = await service.make();
      if (key.length !== keyBytes)
        throw new StoreUnavailable("key service", new Error(`the data key is not ${keyBytes} bytes long`));
      dataKeys.set(wrapped, key);
      return { header: { alg: "dir", enc: "A256GCM", kid, wrapped }, key };
    },
    async decryptionKey({ alg, kid, wrapped }) {
      if (alg !== "dir" || typeof wrapped !== "string" || !kid || !service.owns(kid)) return undefined;
      const known = dataKeys.get(wrapped);
      if (known) return known;
      const key = await service.unwrap(wrapped);
      // Not a data key of ours: whoever can write rows must not make the service look unavailable.
      if (key?.length !== keyBytes) return undefined;
      dataKeys.set(wrapped, key);
      return key;
    },
  };
}
