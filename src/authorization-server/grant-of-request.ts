import type { Grant, KoaContextWithOIDC } from "oidc-provider";
import type { AuthorizationServerDeps } from "./authorization-server-deps.ts";
import { orUnavailable } from "./or-unavailable.ts";
import { routeOfResource } from "./resource-servers.ts";

/**
 * The grant an authorization request ends in, not saved yet: everything it asks for, if the person has just consented, or if a
 * live grant of the same person and client covers it (F3.4); else none, and consent is asked for.
 */
export async function grantOfRequest(
  ctx: KoaContextWithOIDC,
  deps: Pick<AuthorizationServerDeps, "routes" | "store">,
): Promise<Grant | undefined> {
  const { client, session, result, provider, resourceServers = {} } = ctx.oidc;
  const userId = session?.accountId;
  if (!client || !userId) return undefined;
  if (!result?.consent && !(await remembered(ctx, deps, userId, client.clientId))) return undefined;
  const grant = new provider.Grant({ accountId: userId, clientId: client.clientId });
  const oidcScopes = [...ctx.oidc.requestParamOIDCScopes].join(" ");
  if (oidcScopes) grant.addOIDCScope(oidcScopes);
  for (const [resource, server] of Object.entries(resourceServers)) {
    grant.addResourceScope(resource, server.scope);
  }
  return grant;
}

async function remembered(
  ctx: KoaContextWithOIDC,
  deps: Pick<AuthorizationServerDeps, "routes" | "store">,
  userId: string,
  clientId: string,
): Promise<boolean> {
  const asked = Object.entries(ctx.oidc.resourceServers ?? {});
  const grants = await orUnavailable(deps.store.authorizationServerRecords.grants({ userId, clientId }));
  return grants.some(({ payload }) => {
    const given = scopesByRoute(payload, deps);
    const oidcGiven = scopesOf(isRecord(payload.openid) ? payload.openid.scope : undefined);
    const oidcAsked = [...ctx.oidc.requestParamOIDCScopes];
    return (
      oidcAsked.every((scope) => oidcGiven.has(scope)) &&
      asked.every(([, server]) => {
        const known = given.get(server.audience ?? "");
        return known !== undefined && [...server.scopes].every((scope) => known.has(scope));
      })
    );
  });
}

/** A grant's scopes by our own name of each resource, however the client spelled it. */
function scopesByRoute(
  payload: Record<string, unknown>,
  deps: Pick<AuthorizationServerDeps, "routes">,
): Map<string, Set<string>> {
  const result = new Map<string, Set<string>>();
  if (!isRecord(payload.resources)) return result;
  for (const [resource, scope] of Object.entries(payload.resources)) {
    const route = routeOfResource(deps.routes(), resource);
    if (route) result.set(route.resource, scopesOf(scope));
  }
  return result;
}

function scopesOf(scope: unknown): Set<string> {
  return new Set(typeof scope === "string" ? scope.split(" ").filter(Boolean) : []);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
