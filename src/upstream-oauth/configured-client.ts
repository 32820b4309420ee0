import type { AuthorizationServer } from "oauth4webapi";
import type { ClientAuthMethod, ClientSecrets } from "../model/route.ts";
import { chooseAuthMethod } from "./choose-auth-method.ts";
import type { UpstreamClient } from "./upstream-client.ts";

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
