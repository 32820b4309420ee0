import { importJWK } from "jose";
import {
  allowInsecureRequests,
  customFetch,
  DPoP,
  type DPoPHandle,
  genericTokenEndpointRequest,
} from "oauth4webapi";
import type { ClientAuthMethod } from "../model/route.ts";
import { type AuthMethods, clientAuth, type UpstreamClient } from "./client-authentication.ts";
import { UpstreamOAuthError } from "./errors.ts";
import { readTokenAnswer, type TokenAnswer } from "./token-response.ts";

interface TokenRequest {
  readonly fetch: typeof globalThis.fetch;
  readonly authMethods: AuthMethods;
  readonly issuer: string;
  readonly tokenEndpoint: string;
  readonly client: UpstreamClient;
  readonly grantType: string;
  readonly parameters: Readonly<Record<string, string | undefined>>;
  /** Private JWK (ES256) that the token is bound to (RFC 9449 section 5). */
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
 * One token request: client authentication, DPoP with a retry for its nonce, and the checked response. If the server rejects the client,
 * the other secret-based authentication method is tried once, and remembered if it works.
 *
 * @throws UpstreamOAuthError see `readTokenAnswer`; `unreachable` and `endpoint_not_allowed` from the fetch.
 */
export async function requestToken(request: TokenRequest): Promise<TokenAnswer> {
  const { client, authMethods, tokenEndpoint } = request;
  const dpop = request.dpopKey ? await dpopHandle(request.dpopKey) : undefined;
  let rejected: UpstreamOAuthError | undefined;
  for (const method of authMethods.of(client, tokenEndpoint)) {
    try {
      const answer = await ask(request, method, dpop);
      remember(request, method, rejected !== undefined);
      return answer;
    } catch (error) {
      const failed = UpstreamOAuthError.from(error, "the token request failed");
      if (!mayBeAboutMethod(failed)) {
        // The server rejects the request, but has accepted the client.
        if (failed.code === "token_request_rejected") remember(request, method, rejected !== undefined);
        throw failed;
      }
      rejected ??= failed;
    }
  }
  throw (
    rejected ??
    new UpstreamOAuthError("client_rejected", "no usable authentication method at the token endpoint")
  );
}

function remember(
  { client, authMethods, tokenEndpoint }: TokenRequest,
  method: ClientAuthMethod,
  another: boolean,
): void {
  authMethods.worked(client, tokenEndpoint, method);
  // If this fails, each replica finds out for itself.
  if (another) client.keepAuthMethod?.(method).catch(() => {});
}

/** The server rejects the client, or reports a missing parameter that another method would send (servers of the Python SDK). */
function mayBeAboutMethod({ code, error, detail = "" }: UpstreamOAuthError): boolean {
  if (code === "client_rejected") return true;
  return (
    code === "token_request_rejected" &&
    error === "invalid_request" &&
    /client_(id|secret)|credential/i.test(detail)
  );
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
  let secrets: readonly string[] = [];
  const send = async () => {
    const response = await genericTokenEndpointRequest(
      as,
      { client_id: clientId },
      authentication,
      request.grantType,
      parameters,
      {
        [customFetch](url, init) {
          secrets = [request.client.clientSecret ?? "", ...secretsOf(init)];
          return request.fetch(url, init);
        },
        // The fetch decides which http hosts are allowed.
        [allowInsecureRequests]: true,
        DPoP: dpop,
      },
    );
    return readTokenAnswer(as, clientId, response, Date.now(), secrets);
  };
  try {
    return await send();
  } catch (error) {
    // The handle has stored the nonce of that response (RFC 9449 section 8).
    if (dpop && error instanceof UpstreamOAuthError && error.error === "use_dpop_nonce") return await send();
    throw error;
  }
}

/** The secrets of a request, as sent. */
function secretsOf({ body, headers }: { readonly body?: unknown; readonly headers: Record<string, string> }) {
  const [, credentials = ""] = (headers.authorization ?? "").split(" ");
  const form = body instanceof URLSearchParams ? [...body] : [];
  return [credentials, ...form.flatMap(([name, value]) => (secretParameters.has(name) ? [value] : []))];
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
