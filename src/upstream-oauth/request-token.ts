import { importJWK } from "jose";
import {
  allowInsecureRequests,
  customFetch,
  DPoP,
  type DPoPHandle,
  genericTokenEndpointRequest,
} from "oauth4webapi";
import type { ClientAuthMethod } from "../config/route.ts";
import { clientAuth } from "./client-auth.ts";
import { readTokenAnswer, type TokenAnswer } from "./token-answer.ts";
import type { UpstreamClient } from "./upstream-client.ts";
import { UpstreamOAuthError } from "./upstream-oauth-error.ts";

interface TokenRequest {
  readonly fetch: typeof globalThis.fetch;
  readonly issuer: string;
  readonly tokenEndpoint: string;
  readonly client: UpstreamClient;
  readonly grantType: string;
  readonly parameters: Readonly<Record<string, string | undefined>>;
  /** Private JWK (ES256): the token is to be bound to it (RFC 9449 section 5). */
  readonly dpopKey?: JsonWebKey;
}

const secretParameters = new Set([
  "code",
  "code_verifier",
  "refresh_token",
  "client_secret",
  "client_assertion",
  "assertion",
  "subject_token",
]);

/**
 * One grant at a token endpoint: client authentication, DPoP with its nonce round, and the checked answer.
 *
 * @throws UpstreamOAuthError see `readTokenAnswer`; `unreachable` and `endpoint_not_allowed` from the fetch.
 */
export async function requestToken(request: TokenRequest): Promise<TokenAnswer> {
  const { authMethod } = request.client;
  const methods: ClientAuthMethod[] =
    authMethod === "auto" ? ["client_secret_basic", "client_secret_post"] : [authMethod];
  const dpop = request.dpopKey ? await dpopHandle(request.dpopKey) : undefined;
  for (const method of methods) {
    try {
      return await ask(request, method, dpop);
    } catch (error) {
      const failed = UpstreamOAuthError.from(error, "the token request failed");
      const last = method === methods.at(-1);
      if (failed.code !== "client_refused" || last) throw failed;
    }
  }
  throw new UpstreamOAuthError("client_refused", "no way to authenticate at the token endpoint");
}

async function ask(
  request: TokenRequest,
  method: ClientAuthMethod,
  dpop: DPoPHandle | undefined,
): Promise<TokenAnswer> {
  const as = { issuer: request.issuer, token_endpoint: request.tokenEndpoint };
  const clientId = request.client.clientId;
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(request.parameters)) {
    if (value !== undefined) parameters.set(name, value);
  }
  const authentication = await clientAuth(request.client, method);
  const send = async () => {
    const response = await genericTokenEndpointRequest(
      as,
      { client_id: clientId },
      authentication,
      request.grantType,
      parameters,
      // Which http hosts are allowed is the fetch's to decide.
      { [customFetch]: request.fetch, [allowInsecureRequests]: true, DPoP: dpop },
    );
    const secrets = [...parameters]
      .filter(([name, value]) => value && secretParameters.has(name))
      .map(([, value]) => value);
    return readTokenAnswer(as, clientId, response, Date.now(), secrets);
  };
  try {
    return await send();
  } catch (error) {
    // The handle has kept the nonce of that answer (RFC 9449 section 8).
    if (dpop && error instanceof UpstreamOAuthError && error.error === "use_dpop_nonce") return await send();
    throw error;
  }
}

async function dpopHandle(jwk: JsonWebKey): Promise<DPoPHandle> {
  const { d: _, key_ops: __, ...publicJwk } = jwk;
  const privateKey = await importJWK({ ...jwk, kty: "EC", key_ops: ["sign"] }, "ES256");
  const publicKey = await importJWK({ ...publicJwk, kty: "EC", key_ops: ["verify"], ext: true }, "ES256");
  if (!(privateKey instanceof CryptoKey) || !(publicKey instanceof CryptoKey)) {
    throw new UpstreamOAuthError("key_unusable", "the stored DPoP key is not an EC key");
  }
  return DPoP({}, { privateKey, publicKey });
}
