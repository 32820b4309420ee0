import { importJWK, importPKCS8, type JSONWebKeySet } from "jose";
import {
  type AuthorizationServer,
  type ClientAuth,
  ClientSecretPost,
  modifyAssertion,
  None,
  PrivateKeyJwt,
} from "oauth4webapi";
import type { ClientAuthMethod, ClientSecrets } from "../model/route.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { UpstreamOAuthError } from "./errors.ts";
import { textsOf } from "./json.ts";

/** Who we are at an upstream's authorization server. */
export interface UpstreamClient {
  readonly clientId: string;
  readonly clientSecret?: string;
  /** `auto`: the routes file leaves it open and no metadata tells; Basic first, then the body. */
  readonly authMethod: ClientAuthMethod | "auto";
  /** The operator says so: no other way is tried. */
  readonly authMethodFixed?: boolean;
  /** Keeps, for every replica, the way that worked where another had been expected. */
  readonly keepAuthMethod?: (method: ClientAuthMethod) => Promise<void>;
  /** Unix ms, of a registration: another one may have the same client id. */
  readonly registeredAt?: number;
  readonly source: "configured" | "document" | "registered";
  /** For `private_key_jwt`: PKCS 8 or JWK text, and its JWS algorithm; else our own key signs. */
  readonly privateKey?: string;
  readonly signingAlg?: string;
  readonly ownKey: () => ClientKey;
  /** Where no issuer is known that an assertion could name: the token endpoint (RFC 7523 section 3). */
  readonly audience?: string;
}

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

/** Ways to prove a client secret. */
export const bySecret: readonly ClientAuthMethod[] = ["client_secret_basic", "client_secret_post"];

/**
 * The method we use at a server: the first of ours that it lists, but of the two by a secret the one that it lists first. A server
 * that lists none takes Basic (RFC 8414 section 2). `private_key_jwt` is with our own key here.
 *
 * @param able which methods we have the means for, the one we like best first.
 * @returns undefined when the server lists only methods that we cannot do.
 */
export function chooseAuthMethod<Able extends ClientAuthMethod>(
  as: AuthorizationServer,
  able: readonly Able[],
): Able | undefined {
  const listed = textsOf(as.token_endpoint_auth_methods_supported) ?? ["client_secret_basic", "none"];
  const fits = able.filter((one) => listed.includes(one) && (one !== "private_key_jwt" || takesOurs(as)));
  const [best] = fits;
  if (best === undefined || !bySecret.includes(best)) return best;
  const rank = (one: Able) => listed.indexOf(one);
  return fits.filter((one) => bySecret.includes(one)).reduce((a, b) => (rank(b) < rank(a) ? b : a));
}

function takesOurs({ token_endpoint_auth_signing_alg_values_supported: algs }: AuthorizationServer): boolean {
  return textsOf(algs)?.includes(clientKeyAlg) ?? true;
}

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

/**
 * A client of the routes file.
 *
 * @param auth what the file says of it
 * @param server `as`: its metadata, where there are any
 */
export function configuredClient(
  auth: ClientSecrets & { readonly clientId: string; readonly authMethod?: ClientAuthMethod },
  server: Pick<UpstreamClient, "audience" | "ownKey"> & { readonly as?: AuthorizationServer },
): UpstreamClient {
  const { clientId, clientSecret, privateKey, signingAlg } = auth;
  const { as, audience, ownKey } = server;
  const bySecret = () =>
    (as && chooseAuthMethod(as, ["client_secret_basic", "client_secret_post"])) ?? "auto";
  const authMethod = auth.authMethod ?? (privateKey ? "private_key_jwt" : clientSecret ? bySecret() : "none");
  return {
    clientId,
    clientSecret,
    privateKey,
    signingAlg,
    authMethod,
    authMethodFixed: auth.authMethod !== undefined,
    audience,
    ownKey,
    source: "configured",
  };
}
