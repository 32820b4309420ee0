import type { AccessToken, ClientCredentials, KoaContextWithOIDC, UnknownObject } from "oidc-provider";
import type { AuthorizationServerDeps } from "./authorization-server-deps.ts";
import { orUnavailable } from "./or-unavailable.ts";
import { routeOfResource } from "./resource-servers.ts";

/**
 * The claims of an external token beyond RFC 9068's: its grant, and whether its client may not use refresh tokens. Nothing about
 * the person: that changes while the token lives, and has no bound. Writes the audit event.
 */
export async function tokenClaims(
  ctx: KoaContextWithOIDC,
  token: AccessToken | ClientCredentials,
  deps: Pick<AuthorizationServerDeps, "routes" | "store">,
): Promise<UnknownObject | undefined> {
  if (token.kind !== "AccessToken") return undefined;
  const { grantId, accountId: userId, clientId, aud } = token;
  const routeId = typeof aud === "string" ? routeOfResource(deps.routes(), aud)?.id : undefined;
  const { AuthorizationCode: code, RefreshToken: refreshToken } = ctx.oidc.entities;
  const resource = (code ?? refreshToken)?.resource;
  await orUnavailable(
    deps.store.audit({ action: "external_token.issued", userId, clientId, grantId, routeId }),
  );
  return {
    grant_id: grantId,
    // The audience is the route's own name; which endpoint below it is meant decides which connection its calls go over.
    mcp_path: typeof resource === "string" ? routeOfResource(deps.routes(), resource)?.askedPath : undefined,
    // Decides how a rejected token is answered: who cannot get a new one must not be told to.
    refreshable: ctx.oidc.client?.grantTypeAllowed("refresh_token") === false ? false : undefined,
  };
}
