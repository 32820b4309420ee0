import type { CompactJWEHeaderParameters, CryptoKey } from "jose";

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
