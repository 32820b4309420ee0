import type { Route } from "../model/route.ts";
import type { NewUpstreamToken, UpstreamToken } from "../store/upstream-tokens.ts";
import type { AuthMethods } from "./client-authentication.ts";
import type { Clients } from "./clients.ts";
import { UpstreamOAuthError } from "./errors.ts";
import { staleKeysMs } from "./registration-trial.ts";
import type { RouteFetch } from "./route-fetch.ts";
import { requestToken } from "./token-endpoint.ts";
import type { TokenAnswer } from "./token-response.ts";
import type { RefreshOutcome } from "./upstream-oauth.ts";

/** The longest refresh, ms: two client authentication methods, each with a retry for a DPoP nonce. @param timeoutMs of one request */
export const longestRefreshMs = (timeoutMs: number): number => 4 * timeoutMs;

/** Retry interval if the server rejects the configured client, which only the operator can fix. */
const operatorsRetrySeconds = 60;
const retrySeconds = 5;

/**
 * One refresh at the token endpoint that issued the token (RFC 6749 section 6). Never throws.
 *
 * A rejection is final. A failing or slow server, and a rejected configured client, are not.
 */
export async function refresh(
  deps: { clients: Clients; routeFetch: RouteFetch; authMethods: AuthMethods },
  token: UpstreamToken,
  route: Route,
): Promise<RefreshOutcome & { error?: UpstreamOAuthError }> {
  if (!token.refreshToken) return { kind: "rejected", reason: "no_refresh_token" };
  if (token.refreshExpiresAt && token.refreshExpiresAt.getTime() <= Date.now()) {
    return { kind: "rejected", reason: "refresh_token_expired" };
  }
  const clientKey = { issuer: token.issuer, clientId: token.clientId, redirectUri: token.redirectUri ?? "" };
  const client = await deps.clients.known(route, clientKey);
  if (!client) return { kind: "rejected", reason: "client_registration_missing" };
  try {
    const answer = await requestToken({
      fetch: deps.routeFetch.fetchFor(route),
      authMethods: deps.authMethods,
      issuer: token.issuer,
      tokenEndpoint: token.tokenEndpoint,
      client,
      grantType: "refresh_token",
      parameters: { refresh_token: token.refreshToken, resource: token.resource },
      dpopKey: token.dpopKey,
    });
    if (answer.tokenType === "N_A" || (answer.tokenType === "DPoP") !== (token.dpopKey !== undefined)) {
      return { kind: "rejected", reason: "token_type_changed" };
    }
    return { kind: "refreshed", token: refreshed(token, answer) };
  } catch (thrown) {
    const error = UpstreamOAuthError.from(thrown, "the refresh failed");
    if (isUnexplained(error)) {
      return {
        kind: "unavailable",
        retryAfterSeconds: retrySeconds,
        reason: "rejected_without_reason",
        unexplained: true,
        error,
      };
    }
    if (error.code === "client_rejected") {
      // The server no longer knows a registered client, so its refresh tokens are gone too.
      const mayHaveStaleKeys =
        client.authMethod === "private_key_jwt" &&
        Date.now() < (token.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY) + staleKeysMs;
      if (!mayHaveStaleKeys && (await deps.clients.forget(route, clientKey, error)))
        return { kind: "rejected", reason: "client_registration_lost", error };
      return { kind: "unavailable", retryAfterSeconds: operatorsRetrySeconds, reason: error.code, error };
    }
    if (error.code === "token_request_rejected") {
      return { kind: "rejected", reason: error.word, error };
    }
    const retryAfterSeconds = error.retryAfterSeconds ?? retrySeconds;
    return { kind: "unavailable", retryAfterSeconds, reason: error.code, error };
  }
}

/** A 4xx status without an OAuth error: a page, a message, or nothing (RFC 6749 section 5.2 requires `error`). */
function isUnexplained({ code, error, status = 0 }: UpstreamOAuthError): boolean {
  if (error !== undefined || !["token_invalid", "token_endpoint_unusable", "client_rejected"].includes(code))
    return false;
  return status >= 400 && status < 500 && ![408, 425, 429].includes(status);
}

/** Without rotation, the old refresh token stays, with its expiry. */
function refreshed(token: UpstreamToken, answer: TokenAnswer): NewUpstreamToken {
  const { version: _, connectedAt: __, updatedAt: ___, lastUsedAt: ____, rejections: _____, ...kept } = token;
  const rotated = answer.refreshToken !== undefined && answer.refreshToken !== token.refreshToken;
  return {
    ...kept,
    accessToken: answer.accessToken,
    expiresAt: answer.expiresAt,
    refreshToken: answer.refreshToken ?? token.refreshToken,
    refreshExpiresAt: answer.refreshExpiresAt ?? (rotated ? undefined : token.refreshExpiresAt),
    scopes: answer.scopes ?? token.scopes,
  };
}
