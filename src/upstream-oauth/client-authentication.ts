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

/** This gateway's client at an upstream's authorization server. */
export interface UpstreamClient {
  readonly clientId: string;
  readonly clientSecret?: string;
  /** `auto`: neither the routes file nor metadata says; Basic is tried first, then the body. */
  readonly authMethod: ClientAuthMethod | "auto";
  /** Set by the operator: no other method is tried. */
  readonly authMethodFixed?: boolean;
  /** Stores, for all replicas, a method that worked although another was expected. */
  readonly keepAuthMethod?: (method: ClientAuthMethod) => Promise<void>;
  /** When it was registered, Unix ms: a later registration may have the same client id. */
  readonly registeredAt?: number;
  readonly source: "configured" | "document" | "registered";
  /** For `private_key_jwt`: PKCS 8 or JWK text, and its JWS algorithm. If absent, the gateway's own key signs. */
  readonly privateKey?: string;
  readonly signingAlg?: string;
  readonly ownKey: () => ClientKey;
  /** Audience of assertions if no issuer is known: the token endpoint (RFC 7523 section 3). */
  readonly audience?: string;
}

/** The gateway's own keys for `private_key_jwt` (RFC 7523 section 2.2), all ES256. */
export interface ClientKeys {
  /** The current signing key. */
  signer(purpose: "upstream_client"): ClientKey;
  /** Public keys, served at `jwks_uri` (RFC 7591 section 2). */
  jwks(purpose: "upstream_client"): JSONWebKeySet;
}

export interface ClientKey {
  readonly kid: string;
  readonly key: CryptoKey;
}

export const clientKeyAlg = "ES256";

/** Methods that use a client secret. */
export const bySecret: readonly ClientAuthMethod[] = ["client_secret_basic", "client_secret_post"];

/**
 * The method to use at a server: the first of `able` that it lists. Of the two secret-based methods, the server's order decides. A server
 * that lists none accepts Basic (RFC 8414 section 2). `private_key_jwt` uses the gateway's own key here.
 *
 * @param able supported methods, most preferred first.
 * @returns undefined if the server lists only unsupported methods.
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
 * Client authentication at the token endpoint (RFC 6749 section 2.3, RFC 7523 section 2.2).
 *
 * @throws UpstreamOAuthError `key_unusable` for a private key that cannot be read.
 */
export async function clientAuth(client: UpstreamClient, method: ClientAuthMethod): Promise<ClientAuth> {
  if (method === "private_key_jwt") {
    const { audience } = client;
    const key = client.privateKey === undefined ? client.ownKey() : await importPrivateKey(client);
    return PrivateKeyJwt(key, {
      [modifyAssertion](header, payload) {
        // Ed25519 has two algorithm names: use the configured one, which the server expects.
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

/** Remembers which secret-based method a server accepts if its metadata is wrong or absent. */
export interface AuthMethods {
  /**
   * Methods to try at a server, most likely first: the client's own; if it uses a secret, the other secret-based method too. Never falls
   * back to `none`, and never replaces a signature.
   *
   * @param tokenEndpoint its URL
   */
  of(client: UpstreamClient, tokenEndpoint: string): readonly ClientAuthMethod[];
  /** Remembers the method that worked. */
  worked(client: UpstreamClient, tokenEndpoint: string, method: ClientAuthMethod): void;
}

export function createAuthMethods(): AuthMethods {
  const seen = boundedCache<string, ClientAuthMethod>(10_000);
  const keyOf = ({ clientId }: UpstreamClient, tokenEndpoint: string) => `${tokenEndpoint} ${clientId}`;

  function able({ authMethod, authMethodFixed, clientSecret }: UpstreamClient): readonly ClientAuthMethod[] {
    if (authMethod === "auto") return bySecret;
    if (authMethodFixed || !clientSecret || !bySecret.includes(authMethod)) return [authMethod];
    return [authMethod, ...bySecret.filter((other) => other !== authMethod)];
  }

  return {
    of(client, tokenEndpoint) {
      const methods = able(client);
      const known = seen.get(keyOf(client, tokenEndpoint));
      if (known === undefined || !methods.includes(known)) return methods;
      return [known, ...methods.filter((method) => method !== known)];
    },
    worked(client, tokenEndpoint, method) {
      if (method === able(client)[0] && seen.get(keyOf(client, tokenEndpoint)) === undefined) return;
      seen.set(keyOf(client, tokenEndpoint), method);
    },
  };
}

/** Unlike oauth4webapi's, leaves `-`, `.` and `_` unescaped: servers that do not decode would reject a UUID. */
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
 * @param auth its entry in the file
 * @param server `as`: the server's metadata, if any
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
