import { createHash, randomUUID } from "node:crypto";
import { exportJWK, generateKeyPair, importJWK, SignJWT } from "jose";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import { boundedCache } from "../util/bounded-cache.ts";

/** Proofs of possession for requests to upstreams (RFC 9449 section 4). */
export interface DpopProofs {
  /** Creates the `dpop` header for one request with this token. */
  proofOf(
    token: UpstreamToken,
    key: JsonWebKey,
  ): (method: string, url: string) => Promise<readonly (readonly [string, string])[]>;
  /** Stores the nonce that a route's upstream requires in the next proof (section 9). */
  remember(routeId: string, nonce: string): void;
}

export function createDpopProofs(): DpopProofs {
  /** By route: tenants that share an origin must not affect each other's proofs. */
  const nonces = boundedCache<string, string>(1000);
  return {
    proofOf(token, { d, ...jwk }) {
      const ath = createHash("sha256").update(token.accessToken).digest("base64url");
      const privateKey = importJWK({ ...jwk, d, kty: "EC" }, "ES256");
      // An unreadable key fails the request, not the process.
      privateKey.catch(() => {});
      return async (method, url) => {
        const { origin, pathname } = new URL(url);
        const nonce = nonces.get(token.routeId);
        const proof = await new SignJWT({ htm: method, htu: `${origin}${pathname}`, ath, nonce })
          .setProtectedHeader({
            alg: "ES256",
            typ: "dpop+jwt",
            jwk: { kty: "EC", crv: jwk.crv, x: jwk.x, y: jwk.y },
          })
          .setJti(randomUUID())
          .setIssuedAt()
          .sign(await privateKey);
        return [["dpop", proof]];
      };
    },
    remember(routeId, nonce) {
      // Section 8.1: NQCHAR, bounded, since the nonce is part of every later request.
      if (!/^[\x21\x23-\x5b\x5d-\x7e]{1,512}$/.test(nonce)) return;
      nonces.set(routeId, nonce);
    },
  };
}

/** A new private JWK (ES256) that the tokens of one connection are bound to (RFC 9449). */
export async function generateDpopKey(): Promise<JsonWebKey> {
  const { privateKey } = await generateKeyPair("ES256", { extractable: true });
  const { kty, crv, x, y, d } = await exportJWK(privateKey);
  return { kty, crv, x, y, d };
}
