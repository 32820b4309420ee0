import { allowInsecureRequests, customFetch, revocationRequest } from "oauth4webapi";
import type { Route } from "../model/route.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import { type AuthMethods, clientAuth } from "./client-authentication.ts";
import type { Clients } from "./clients.ts";
import { UpstreamOAuthError } from "./errors.ts";
import { readJsonObject } from "./json.ts";
import type { RouteFetch } from "./route-fetch.ts";
import { oauthErrorOf } from "./token-response.ts";
import type { Revocation } from "./upstream-oauth.ts";

/**
 * Revokes an upstream token at its issuer (RFC 7009): the refresh token, which should also end its access tokens, and then the access
 * token, for servers that do not do that.
 *
 * @throws UpstreamOAuthError, or what the fetch throws.
 */
export async function revoke(
  deps: { clients: Clients; routeFetch: RouteFetch; authMethods: AuthMethods },
  token: UpstreamToken,
  route: Route,
): Promise<Revocation> {
  const { issuer } = token;
  if (!token.revocationEndpoint) return { revoked: false, issuer, reason: "it has no revocation endpoint" };
  deps.routeFetch.checkEndpoint(route, "revocation_endpoint", token.revocationEndpoint);
  const client = await deps.clients.known(route, {
    issuer: token.issuer,
    clientId: token.clientId,
    redirectUri: token.redirectUri ?? "",
  });
  if (!client)
    return { revoked: false, issuer, reason: "the gateway no longer has the client that obtained it" };
  const { host } = new URL(token.revocationEndpoint);
  const as = { issuer: token.issuer, revocation_endpoint: token.revocationEndpoint };
  const send = async (value: string, hint: string) => {
    let failure: unknown;
    for (const method of deps.authMethods.of(client, token.tokenEndpoint)) {
      const response = await revocationRequest(
        as,
        { client_id: client.clientId },
        await clientAuth(client, method),
        value,
        {
          [customFetch]: deps.routeFetch.fetchFor(route),
          [allowInsecureRequests]: true,
          additionalParameters: { token_type_hint: hint },
        },
      );
      const answer = readJsonObject(await response.text());
      const error = oauthErrorOf(answer);
      // An unknown token is not valid there (RFC 7009 section 2.2).
      if ((response.ok && error === undefined && answer?.ok !== false) || isUnknownToken(error)) return;
      failure = new UpstreamOAuthError(
        response.status >= 500 ? "server_error" : "token_request_rejected",
        `revocation at ${host} failed (${response.status})`,
        { error, status: response.status },
      );
      if (response.status !== 401 && error !== "invalid_client") break;
    }
    throw failure;
  };
  if (!token.refreshToken) {
    await send(token.accessToken, "access_token");
    return { revoked: true };
  }
  let failure: unknown;
  try {
    await send(token.refreshToken, "refresh_token");
  } catch (error) {
    if (!(error instanceof UpstreamOAuthError) || error.code !== "token_request_rejected") throw error;
    failure = error;
  }
  try {
    await send(token.accessToken, "access_token");
  } catch (error) {
    // A server that revokes only one kind of token (RFC 7009 section 2.2.1) has revoked the refresh token.
    if (!(error instanceof UpstreamOAuthError) || error.code !== "token_request_rejected") throw error;
  }
  if (failure !== undefined) throw failure;
  return { revoked: true };
}

function isUnknownToken(error: string | undefined): boolean {
  return error === "invalid_token" || error === "invalid_grant" || error === "token_revoked";
}
