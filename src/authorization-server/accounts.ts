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
import { isSameResource, reservedResource, routeOfResource } from "../config/resources.ts";
import type { Route } from "../model/route.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { orUnavailable, serverUnusable, temporarilyUnavailable } from "./errors.ts";
import { browserRequest } from "./normalize-requests.ts";
import type { RefreshRotation } from "./refresh-rotation.ts";

/**
 * oidc-provider's account lookup. On a refresh it also decides whether the token may be used: oidc-provider calls it after it has
 * found the token and before it consumes it, so a rejection does not consume the token.
 */
export function createFindAccount(
  deps: AuthorizationServerDeps,
  rotation: Pick<RefreshRotation, "repeats">,
): FindAccount {
  return async (ctx, userId, token): Promise<Account | undefined> => {
    if (ctx.oidc.route === "token") {
      if (token) spellAsGranted(ctx, token, deps);
      const route = token && isRefreshToken(token) ? await checkRefresh(ctx, userId, token, deps) : undefined;
      const person = await orUnavailable(deps.store.signInSessions.find(userId));
      if (!person) return undefined;
      // Policy is enforced on every call anyway; only a repeated answer needs a check here.
      if (route && rotation.repeats(ctx) && !deps.mayReach(person, route))
        throw invalidGrant("policy denies this user access to the MCP server");
    }
    return { accountId: userId, claims: async () => ({ sub: userId }) };
  };
}

/** oidc-provider compares resources as strings, so another spelling of the granted one is normalized. */
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

async function checkRefresh(
  ctx: KoaContextWithOIDC,
  userId: string,
  token: RefreshToken,
  deps: AuthorizationServerDeps,
): Promise<Route | undefined> {
  // For a reused token, oidc-provider revokes the token family (RFC 9700 section 4.14.2): `refresh-rotation.ts`.
  if ("consumed" in token && token.consumed) return undefined;
  const { resource } = token;
  const reserved = typeof resource === "string" ? reservedResource(deps.routes(), resource) : undefined;
  if (reserved) throw serverUnusable(reserved);
  const asked = ctx.oidc.params?.resource;
  if (asked !== undefined && asked !== resource) throw new errors.InvalidTarget();
  const route = typeof resource === "string" ? routeOfResource(deps.routes(), resource) : undefined;
  if (!route) throw invalidGrant("the MCP server of this grant no longer exists");

  const recheck = await orUnavailable(deps.signIn.recheck(userId));
  if (recheck === "rejected") throw invalidGrant("the sign-in provider no longer accepts this user");
  if (recheck === "sign_in_again") throw invalidGrant("the user has to sign in again");
  if (recheck === "unavailable") {
    throw temporarilyUnavailable(
      "the sign-in provider cannot be reached to check this user; try again shortly",
    );
  }
  if (refreshesEarly(token, deps)) await orUnavailable(deps.upstreamTokens.verify(userId, route));
  const { state, signInNeeded } = await orUnavailable(deps.upstreamTokens.connectionState(userId, route));
  if (signInNeeded)
    throw invalidGrant("the server behind this route requires the user to sign in again: authorize again");
  if (state === "missing")
    throw invalidGrant("the server behind this route requires the user's consent: authorize again");
  return route;
}

/**
 * Without a response path the gateway does not see an upstream's 401, but the client does, and refreshes long before its token expires.
 * Clients that refresh shortly before that have no reason to doubt the connection.
 */
function refreshesEarly({ iat }: RefreshToken, { routes }: Pick<AuthorizationServerDeps, "routes">): boolean {
  const { envoy, externalTokens } = routes().config;
  return !envoy.responsePath && Date.now() / 1000 - iat < 0.8 * externalTokens.ttl;
}

function invalidGrant(description: string): errors.InvalidGrant {
  return Object.assign(new errors.InvalidGrant(description), { error_description: description });
}

function isRefreshToken(token: { kind?: string }): token is RefreshToken {
  return token.kind === "RefreshToken";
}

/**
 * The claims of an external token beyond RFC 9068: its grant, its endpoint below the route, and whether its client can refresh.
 * Claims about the user are left out: they can change during the token's lifetime and have no size limit. Writes the audit event.
 */
export async function tokenClaims(
  ctx: KoaContextWithOIDC,
  token: AccessToken | ClientCredentials,
  deps: Pick<AuthorizationServerDeps, "routes" | "store" | "metrics">,
): Promise<UnknownObject | undefined> {
  if (token.kind !== "AccessToken") return undefined;
  const { grantId, accountId: userId, clientId, aud } = token;
  const routeId = typeof aud === "string" ? routeOfResource(deps.routes(), aud)?.id : undefined;
  const { AuthorizationCode: code, RefreshToken: refreshToken } = ctx.oidc.entities;
  const resource = (code ?? refreshToken)?.resource;
  await orUnavailable(
    deps.store.audit({ action: "external_token.issued", userId, clientId, grantId, routeId }),
  );
  const begun = code && browserRequest.current()?.begunAt;
  if (begun !== undefined)
    deps.metrics.authorizationDuration.observe(
      { kind: "client", outcome: "granted" },
      Math.max(0, Date.now() / 1000 - begun),
    );
  return {
    grant_id: grantId,
    // The audience names the route; the endpoint below it selects the connection of its calls.
    mcp_path: typeof resource === "string" ? routeOfResource(deps.routes(), resource)?.askedPath : undefined,
    // A client that cannot refresh must not be asked to when its token is rejected.
    refreshable: ctx.oidc.client?.grantTypeAllowed("refresh_token") === false ? false : undefined,
  };
}
