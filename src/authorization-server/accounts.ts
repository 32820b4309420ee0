import {
  type AccessToken,
  type Account,
  type ClientCredentials,
  errors,
  type FindAccount,
  type KoaContextWithOIDC,
  type RefreshToken,
  type UnknownObject,
} from "oidc-provider";
import type { Route } from "../model/route.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { orUnavailable, temporarilyUnavailable } from "./errors.ts";
import type { RefreshRotation } from "./refresh-rotation.ts";
import { isSameResource, routeOfResource } from "./resources.ts";

/**
 * oidc-provider's look-up of a person. Where a refresh token is about to be used, this is also the gate before it: oidc-provider
 * asks here after it has found the token and before it uses it up, so a refusal burns nothing.
 */
export function createFindAccount(
  deps: AuthorizationServerDeps,
  rotation: Pick<RefreshRotation, "repeats">,
): FindAccount {
  return async (ctx, userId, token): Promise<Account | undefined> => {
    if (ctx.oidc.route === "token") {
      if (token) spellAsGranted(ctx, token, deps);
      const route = token && isRefreshToken(token) ? await gate(ctx, userId, token, deps) : undefined;
      const person = await orUnavailable(deps.store.signInSessions.find(userId));
      if (!person) return undefined;
      // At a first use it is the calls that policy decides about; giving something out twice is a favour.
      if (route && rotation.repeats(ctx) && !deps.mayReach(person, route))
        throw refusal("policy does not let this person use the MCP server");
    }
    return { accountId: userId, claims: async () => ({ sub: userId }) };
  };
}

/** oidc-provider compares letter by letter. */
function spellAsGranted(
  { oidc: { params } }: KoaContextWithOIDC,
  token: object,
  { routes }: Pick<AuthorizationServerDeps, "routes">,
): void {
  const resource = "resource" in token ? token.resource : undefined;
  const asked = params?.resource;
  if (!params || typeof asked !== "string" || typeof resource !== "string") return;
  if (isSameResource(routes(), asked, resource)) params.resource = resource;
}

async function gate(
  ctx: KoaContextWithOIDC,
  userId: string,
  token: RefreshToken,
  deps: AuthorizationServerDeps,
): Promise<Route | undefined> {
  // A token used before goes on to oidc-provider, which revokes the family (RFC 9700 section 4.14.2).
  if ("consumed" in token && token.consumed) return undefined;
  const { resource } = token;
  const asked = ctx.oidc.params?.resource;
  if (asked !== undefined && asked !== resource) throw new errors.InvalidTarget();
  const route = typeof resource === "string" ? routeOfResource(deps.routes(), resource) : undefined;
  if (!route) throw refusal("the MCP server this was granted for is gone");

  const recheck = await orUnavailable(deps.signIn.recheck(userId));
  if (recheck === "refused") throw refusal("the sign-in service no longer lets this person in");
  if (recheck === "sign_in_again") throw refusal("the person has to sign in again");
  if (recheck === "unavailable") {
    throw temporarilyUnavailable("the sign-in service cannot be asked about this person; try again shortly");
  }
  const { state, signInNeeded } = await orUnavailable(deps.upstreamTokens.connectionState(userId, route));
  if (signInNeeded)
    throw refusal("the server behind this route needs a new sign-in of the person: authorize again");
  if (state === "missing")
    throw refusal("the server behind this route needs the person's consent: authorize again");
  return route;
}

function refusal(description: string): errors.InvalidGrant {
  return Object.assign(new errors.InvalidGrant(description), { error_description: description });
}

function isRefreshToken(token: { kind?: string }): token is RefreshToken {
  return token.kind === "RefreshToken";
}

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
