import { exportJWK, generateKeyPair } from "jose";

/** A fresh private JWK (ES256) that one connection's tokens are bound to (RFC 9449). */
export async function generateDpopKey(): Promise<JsonWebKey> {
  const { privateKey } = await generateKeyPair("ES256", { extractable: true });
  const { kty, crv, x, y, d } = await exportJWK(privateKey);
  return { kty, crv, x, y, d };
}
