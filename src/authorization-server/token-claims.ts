import type { AccessToken, ClientCredentials, KoaContextWithOIDC, UnknownObject } from "oidc-provider";
import type { AuthorizationServerDeps } from "./authorization-server-deps.ts";
import { orUnavailable } from "./or-unavailable.ts";
import { routeOfResource } from "./resource-servers.ts";

/**
 * The claims of a TE beyond RFC 9068's: its grant, who the person is as the provider last said, and whether its client may not
 * use refresh tokens. Writes the audit event.
 */
export async function tokenClaims(
  ctx: KoaContextWithOIDC,
  token: AccessToken | ClientCredentials,
  deps: Pick<AuthorizationServerDeps, "routes" | "store">,
): Promise<UnknownObject | undefined> {
  if (token.kind !== "AccessToken") return undefined;
  const { grantId, accountId: userId, clientId, aud } = token;
  const signedIn = await orUnavailable(deps.store.signInSessions.find(userId));
  const routeId = typeof aud === "string" ? routeOfResource(deps.routes(), aud)?.id : undefined;
  await orUnavailable(
    deps.store.audit({ action: "external_token.issued", userId, clientId, grantId, routeId }),
  );
  return {
    grant_id: grantId,
    email: signedIn?.email,
    name: signedIn?.name,
    groups: signedIn?.groups ?? [],
    // Decides F4.6's answer: who cannot get a new TE must not be told to.
    refreshable: ctx.oidc.client?.grantTypeAllowed("refresh_token") === false ? false : undefined,
  };
}
