import { type AuthorizationServer, processGenericTokenEndpointResponse } from "oauth4webapi";
import { readableScopes } from "./allowed-scopes.ts";
import { readJsonObject } from "./read-json-object.ts";
import { UpstreamOAuthError } from "./upstream-oauth-error.ts";

/** A checked answer of a token endpoint (F4.10). */
export interface TokenAnswer {
  readonly accessToken: string;
  /** `N_A`: not an access token (RFC 8693), an identity assertion for instance. */
  readonly tokenType: "Bearer" | "DPoP" | "N_A";
  readonly expiresAt?: Date;
  readonly refreshToken?: string;
  readonly refreshExpiresAt?: Date;
  /** As granted; absent when the server did not say, which means: as asked for (RFC 6749 section 5.1). */
  readonly scopes?: readonly string[];
  readonly issuedTokenType?: string;
}

/** Longer than any header that servers take. Every connection in memory holds one, and each of its calls carries it. */
const longestToken = 16 * 1024;
/** More than anybody grants; every check may have to look through them. */
const mostScopes = 500;

/** No server means a life of a hundred years; such numbers are milliseconds or nonsense. */
const longestLife = 100 * 365 * 86_400;

/**
 * Reads and checks a token endpoint's answer (RFC 6749 sections 5.1 and 5.2).
 *
 * @param now ms; lifetimes count from here.
 * @param secrets of the request; servers that repeat them in their errors do not bring them into our log.
 * @throws UpstreamOAuthError `token_refused` (with the server's `error`), `rate_limited`, `server_error`, `token_invalid`.
 */
export async function readTokenAnswer(
  as: AuthorizationServer,
  clientId: string,
  response: Response,
  now: number,
  secrets: readonly string[] = [],
): Promise<TokenAnswer> {
  const text = await response.text();
  const host = new URL(as.token_endpoint ?? as.issuer).host;
  const json = readJsonObject(text);
  refuseErrors(response, json, withoutSecrets(text, secrets), host);
  // An ID token is of no use here, and one that cannot be checked (explicit endpoints know no issuer) must not be fatal.
  const { id_token: _, ...fields } = json ?? {};
  let answer: Awaited<ReturnType<typeof processGenericTokenEndpointResponse>>;
  try {
    answer = await processGenericTokenEndpointResponse(
      as,
      { client_id: clientId },
      new Response(json ? JSON.stringify(fields) : "", response),
      { recognizedTokenTypes: Object.assign(Object.create(null), { n_a: () => {} }) },
    );
  } catch (cause) {
    throw new UpstreamOAuthError("token_invalid", `the token endpoint of ${host} gave no usable token`, {
      cause,
      detail: cause instanceof Error ? cause.message : "",
    });
  }
  for (const token of [answer.access_token, answer.refresh_token ?? answer.access_token]) {
    if (!isToken(token))
      throw new UpstreamOAuthError("token_invalid", `the token endpoint of ${host} gave no usable token`, {
        detail: "a token that is too long, or has characters that no token has",
      });
  }
  const tokenTypes = { bearer: "Bearer", dpop: "DPoP", n_a: "N_A" } as const;
  return {
    accessToken: answer.access_token,
    tokenType: tokenTypes[answer.token_type as keyof typeof tokenTypes],
    expiresAt: expiry(answer.expires_in, now, host),
    refreshToken: answer.refresh_token,
    // Not in any RFC: GitHub and Google use the first name, Keycloak the second, where 0 means "never".
    refreshExpiresAt: optionalExpiry(answer.refresh_token_expires_in ?? answer.refresh_expires_in, now),
    scopes: answer.scope === undefined ? undefined : readableScopes(answer.scope.split(/[ ,]+/), mostScopes),
    issuedTokenType: typeof answer.issued_token_type === "string" ? answer.issued_token_type : undefined,
  };
}

/** RFC 6749 appendix A.12: printable ASCII. Whatever else would be in a header of every call. */
function isToken(text: string): boolean {
  return text.length <= longestToken && /^[\x20-\x7e]+$/.test(text);
}

function expiry(seconds: number | undefined, now: number, host: string): Date | undefined {
  if (seconds === undefined) return undefined;
  if (!(seconds > 0) || seconds > longestLife) {
    throw new UpstreamOAuthError(
      "token_invalid",
      `the token endpoint of ${host} gave a token with an impossible lifetime`,
      { detail: `expires_in ${seconds}` },
    );
  }
  return new Date(now + seconds * 1000);
}

function optionalExpiry(value: unknown, now: number): Date | undefined {
  const seconds = Number(value);
  return seconds > 0 && seconds <= longestLife ? new Date(now + seconds * 1000) : undefined;
}

function withoutSecrets(text: string, secrets: readonly string[]): string {
  return secrets.reduce((left, secret) => left.replaceAll(secret, "[redacted]"), text);
}

/** Some servers (GitHub, Slack) answer errors with status 200. */
function refuseErrors(
  response: Response,
  json: Record<string, unknown> | undefined,
  text: string,
  host: string,
): void {
  const error = typeof json?.error === "string" ? json.error : undefined;
  if (response.ok && !error) return;
  const more = { detail: text, error, retryAfterSeconds: retryAfter(response) };
  if (response.status === 429 || error === "slow_down") {
    throw new UpstreamOAuthError("rate_limited", `the token endpoint of ${host} asks to slow down`, more);
  }
  if (response.status >= 500 || error === "temporarily_unavailable" || error === "server_error") {
    throw new UpstreamOAuthError(
      "server_error",
      `the token endpoint of ${host} failed (${response.status})`,
      more,
    );
  }
  if (error === "invalid_client" || (!error && response.status === 401)) {
    throw new UpstreamOAuthError("client_refused", `the token endpoint of ${host} refused our client`, more);
  }
  throw new UpstreamOAuthError(
    error ? "token_refused" : "token_invalid",
    `the token endpoint of ${host} refused (${response.status})`,
    more,
  );
}

/** RFC 9110 section 10.2.3, seconds; dates are rounded up. */
function retryAfter(response: Response): number | undefined {
  const header = response.headers.get("retry-after");
  if (!header) return undefined;
  const seconds = /^\d+$/.test(header) ? Number(header) : Math.ceil((Date.parse(header) - Date.now()) / 1000);
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 1), 3600) : undefined;
}
