import type { JSONWebKeySet, JWK } from "jose";
import type { SigningKeyPurpose } from "../store/store.ts";

/** What a pair of keys is for; the symmetric keys of check metadata are no part of the ring. */
export type SigningPurpose = Exclude<SigningKeyPurpose, "check_metadata">;

/** The key that signs now: its id and its private half, not extractable from here. */
export interface Signer {
  readonly kid: string;
  readonly key: CryptoKey;
}

/** Our signing keys in memory, the same on every replica. All of them are ES256. */
export interface SigningKeyRing {
  /** The newest key of this purpose whose `activeAt` has come. */
  signer(purpose: SigningPurpose): Signer;
  /** The public half of a published key; undefined for a kid that is not ours (any more). */
  verifier(purpose: SigningPurpose, kid: string): CryptoKey | undefined;
  /** Public keys to publish (RFC 7517 section 5), those that will sign soon included. */
  jwks(purpose: SigningPurpose): JSONWebKeySet;
  /** Private JWKs, the signing one first, for a library that signs by itself (oidc-provider). Never published. */
  privateKeys(purpose: SigningPurpose): JWK[];
  /** Calls `listener` after the keys have changed; returns the way to stop. */
  onChange(listener: () => void): () => void;
  /**
   * Adds a key that signs after `publishSeconds`, so that verifiers have fetched it by then; older keys stay published for
   * `keepSeconds` more, which must cover the longest life of what they signed.
   */
  rotate(purpose: SigningPurpose, publishSeconds: number, keepSeconds: number): Promise<string>;
  close(): void;
}
