import type { CompactJWEHeaderParameters, CryptoKey } from "jose";
import { boundedCache } from "../../util/bounded-cache.ts";
import { StoreUnavailable } from "../errors.ts";

/** What a new ciphertext is made with: JWE header parameters that let `decryptionKey` find the key again, and the key. */
export interface EncryptionKey {
  readonly header: CompactJWEHeaderParameters & { readonly alg: "A256KW" | "dir"; readonly kid: string };
  readonly key: CryptoKey | Uint8Array;
}

/**
 * Key-encryption keys, wherever they live (RFC 7516 §2). A key that is at hand answers with itself and `alg: "A256KW"`: jose
 * makes a fresh content key for every write and wraps it. A key service (Vault transit, AWS or Google Cloud KMS) answers with
 * a data key it has just made, `alg: "dir"`, and the wrapped form in a header parameter of its own, which it unwraps later.
 */
export interface KeyEncryptionKeys {
  /** Names the key that new ciphertexts are made with; rows that name another are what `rotate-keys` rewrites. */
  newest(): string;
  encryptionKey(): Promise<EncryptionKey>;
  /** The key for a ciphertext with this header, whichever of the known keys made it; undefined: none of them did. */
  decryptionKey(header: CompactJWEHeaderParameters): Promise<CryptoKey | Uint8Array | undefined>;
}

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

/** What a key service does for us: make data keys, and open the wrapped ones again. The keys that wrap never leave it. */
export interface KeyService {
  /** Whether it made the ciphertext that names this key. */
  owns(kid: string): boolean;
  /** Name of its key, with the version where the service tells it: rows that name another are rewritten by `rotate-keys`. */
  newest(): string;
  /** 32 bytes, and the form that is stored. */
  make(): Promise<{ readonly kid: string; readonly key: Uint8Array; readonly wrapped: string }>;
  /** Undefined: the service says that it cannot, now or ever. @throws StoreUnavailable */
  unwrap(wrapped: string): Promise<Uint8Array | undefined>;
}

const keyBytes = 32;
const wrongLength = () =>
  new StoreUnavailable("key service", new Error(`a data key that is not ${keyBytes} bytes long`));

/** Unwrapped data keys kept in memory, so that reading a row again asks nobody. */
const maxDataKeys = 20_000;

/** Every ciphertext has a data key of its own, stored wrapped beside it in the JWE's header. */
export function keyServiceKeys(service: KeyService): KeyEncryptionKeys {
  const dataKeys = boundedCache<string, Uint8Array>(maxDataKeys);
  return {
    newest: () => service.newest(),
    async encryptionKey() {
      const { kid, key, wrapped } = await service.make();
      if (key.length !== keyBytes) throw wrongLength();
      dataKeys.set(wrapped, key);
      return { header: { alg: "dir", enc: "A256GCM", kid, wrapped }, key };
    },
    async decryptionKey({ alg, kid, wrapped }) {
      if (alg !== "dir" || typeof wrapped !== "string" || !kid || !service.owns(kid)) return undefined;
      const known = dataKeys.get(wrapped);
      if (known) return known;
      const key = await service.unwrap(wrapped);
      if (!key) return undefined;
      if (key.length !== keyBytes) throw wrongLength();
      dataKeys.set(wrapped, key);
      return key;
    },
  };
}
