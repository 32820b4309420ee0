import { importJWK, importPKCS8 } from "jose";
import { type ClientAuth, ClientSecretPost, modifyAssertion, None, PrivateKeyJwt } from "oauth4webapi";
import type { ClientAuthMethod } from "../model/route.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { bySecret } from "./choose-auth-method.ts";
import { clientKeyAlg } from "./client-key.ts";
import type { UpstreamClient } from "./upstream-client.ts";
import { UpstreamOAuthError } from "./upstream-oauth-error.ts";

/**
 * How a client proves itself at the token endpoint (RFC 6749 section 2.3, RFC 7523 section 2.2).
 *
 * @throws UpstreamOAuthError `key_unusable` for a private key that cannot be read.
 */
export async function clientAuth(client: UpstreamClient, method: ClientAuthMethod): Promise<ClientAuth> {
  if (method === "private_key_jwt") {
    const { audience } = client;
    const key = client.privateKey === undefined ? client.ownKey() : await importPrivateKey(client);
    return PrivateKeyJwt(key, {
      [modifyAssertion](header, payload) {
        // Ed25519 keys go by the name that the operator, and so the server, knows them by.
        if (client.signingAlg !== undefined) header.alg = client.signingAlg;
        if (audience !== undefined) payload.aud = audience;
      },
    });
  }
  if (method === "none" || !client.clientSecret) return None();
  return method === "client_secret_post"
    ? ClientSecretPost(client.clientSecret)
    : basic(client.clientId, client.clientSecret);
}

/** Ways to prove a secret, and which of them a server turned out to take where it says otherwise, or nothing. */
export interface AuthMethods {
  /**
   * Ways to try at a server, the likeliest first: the client's own; where that is by a secret, the other way by a secret too. Never
   * down to no proof, never away from a signature.
   *
   * @param place the token endpoint
   */
  of(client: UpstreamClient, place: string): readonly ClientAuthMethod[];
  /** Remembers the way that worked. */
  worked(client: UpstreamClient, place: string, method: ClientAuthMethod): void;
}

export function createAuthMethods(): AuthMethods {
  const seen = boundedCache<string, ClientAuthMethod>(10_000);
  const keyOf = ({ clientId }: UpstreamClient, place: string) => `${place} ${clientId}`;

  function able({ authMethod, authMethodFixed, clientSecret }: UpstreamClient): readonly ClientAuthMethod[] {
    if (authMethod === "auto") return bySecret;
    if (authMethodFixed || !clientSecret || !bySecret.includes(authMethod)) return [authMethod];
    return [authMethod, ...bySecret.filter((other) => other !== authMethod)];
  }

  return {
    of(client, place) {
      const methods = able(client);
      const known = seen.get(keyOf(client, place));
      if (known === undefined || !methods.includes(known)) return methods;
      return [known, ...methods.filter((method) => method !== known)];
    },
    worked(client, place, method) {
      if (method === able(client)[0] && seen.get(keyOf(client, place)) === undefined) return;
      seen.set(keyOf(client, place), method);
    },
  };
}

/** Not oauth4webapi's: that one escapes `-`, `.` and `_` too, and servers that forget to decode refuse a UUID then. */
function basic(clientId: string, clientSecret: string): ClientAuth {
  const encode = (text: string) => encodeURIComponent(text).replace(/%20/g, "+");
  const value = Buffer.from(`${encode(clientId)}:${encode(clientSecret)}`).toString("base64");
  return (_as, _client, _body, headers) => headers.set("authorization", `Basic ${value}`);
}

async function importPrivateKey(client: UpstreamClient): Promise<{ key: CryptoKey; kid?: string }> {
  const text = client.privateKey?.trim() ?? "";
  const alg = client.signingAlg ?? clientKeyAlg;
  try {
    if (!text.startsWith("{")) return { key: await importPKCS8(text, alg) };
    const jwk: { kid?: string; alg?: string; kty: string } = JSON.parse(text);
    const key = await importJWK(jwk, client.signingAlg ?? jwk.alg ?? clientKeyAlg);
    if (!(key instanceof CryptoKey)) throw new TypeError("not an asymmetric key");
    return { key, kid: jwk.kid };
  } catch (cause) {
    throw new UpstreamOAuthError(
      "key_unusable",
      `the private key of client ${client.clientId} is neither a PKCS 8 PEM nor a JWK for ${alg}`,
      { cause },
    );
  }
}
