import type { JSONWebKeySet } from "jose";

/** Our own keys at authorization servers that know us by key (`private_key_jwt`, RFC 7523 section 2.2); all of them are ES256. */
export interface ClientKeys {
  /** The one that signs now. */
  signer(purpose: "upstream_client"): ClientKey;
  /** Public halves, at `jwks_uri` (RFC 7591 section 2). */
  jwks(purpose: "upstream_client"): JSONWebKeySet;
}

export interface ClientKey {
  readonly kid: string;
  readonly key: CryptoKey;
}

export const clientKeyAlg = "ES256";
