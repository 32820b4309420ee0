import { isDeepStrictEqual } from "node:util";
import { consentAuth, type Route } from "../model/route.ts";

/** Whether discovery finds out anything about a route: it has upstream OAuth without configured endpoints. */
export function isDiscovered(route: Route): boolean {
  const auth = consentAuth(route);
  return auth !== undefined && auth.endpoint === undefined;
}

/**
 * Whether a change of a stored route runs discovery. `no`: what it depends on is as before, so that an outage of the upstream does not
 * prevent an unrelated change. `optional`: only what is shown of it may differ, so that it may fail.
 *
 * @param before undefined if the stored entry is invalid
 */
export function discoveryNeed(before: Route | undefined, route: Route): "no" | "optional" | "required" {
  if (before === undefined) return consentAuth(route)?.clientId === undefined ? "required" : "optional";
  if (!isDeepStrictEqual(dependencies(before), dependencies(route))) return "required";
  return isDeepStrictEqual(shown(before), shown(route)) ? "no" : "optional";
}

function dependencies(route: Route): object | undefined {
  if (!isDiscovered(route) || route.mcp.kind !== "server") return undefined;
  const { upstreamHash, enabled, resource, missingSecrets, mcp } = route;
  const { path, expectedIssuer, exactResource } = mcp;
  const auth = consentAuth(route);
  const clientId = auth?.clientId;
  // A client to register depends on the callback, and was not registered while a secret was missing.
  const registered = clientId === undefined && { resource, missing: missingSecrets !== undefined };
  const { authorizationServerUrl } = auth ?? {};
  return {
    upstreamHash,
    enabled,
    path,
    expectedIssuer,
    exactResource,
    authorizationServerUrl,
    clientId,
    registered,
  };
}

function shown(route: Route): object | undefined {
  if (!isDiscovered(route)) return undefined;
  const { scopes, maxScopes, authMethod } = consentAuth(route) ?? {};
  return { scopes, maxScopes, authMethod, missing: route.missingSecrets !== undefined };
}
