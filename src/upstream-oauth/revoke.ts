import {
  allowInsecureRequests,
  customFetch,
  processRevocationResponse,
  revocationRequest,
} from "oauth4webapi";
import type { ClientAuthMethod, Route } from "../config/route.ts";
import type { UpstreamToken } from "../store/store.ts";
import { clientAuth } from "./client-auth.ts";
import type { Clients } from "./clients.ts";
import type { Outward } from "./outward.ts";
import { UpstreamOAuthError } from "./upstream-oauth-error.ts";

/**
 * Revokes a TI where it came from (RFC 7009): the refresh token, and with it the access tokens of the same consent; the
 * access token too, for servers that do not do the second half.
 *
 * @returns whether there was an endpoint.
 * @throws what the endpoint, or the way to it, answers.
 */
export async function revoke(
  deps: { clients: Clients; outward: Outward },
  token: UpstreamToken,
  route: Route,
): Promise<boolean> {
  if (!token.revocationEndpoint) return false;
  deps.outward.checkEndpoint(route, "revocation_endpoint", token.revocationEndpoint);
  const client = await deps.clients.known(route, {
    issuer: token.issuer,
    clientId: token.clientId,
    redirectUri: token.redirectUri ?? "",
  });
  if (!client) return false;
  const { host } = new URL(token.revocationEndpoint);
  const as = { issuer: token.issuer, revocation_endpoint: token.revocationEndpoint };
  const methods: ClientAuthMethod[] =
    client.authMethod === "auto" ? ["client_secret_basic", "client_secret_post"] : [client.authMethod];
  const send = async (value: string, hint: string) => {
    let failure: unknown;
    for (const method of methods) {
      try {
        const response = await revocationRequest(
          as,
          { client_id: client.clientId },
          await clientAuth(client, method),
          value,
          {
            [customFetch]: deps.outward.fetchFor(route),
            [allowInsecureRequests]: true,
            additionalParameters: { token_type_hint: hint },
          },
        );
        if (response.status >= 500)
          throw new UpstreamOAuthError("server_error", `revocation at ${host} failed (${response.status})`);
        await processRevocationResponse(response);
        return;
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  };
  if (token.refreshToken) await send(token.refreshToken, "refresh_token");
  await send(token.accessToken, "access_token");
  return true;
}
