import { askedAt, endpointUrl, hasExplicitEndpoint, isBelowUpstream } from "../config/paths.ts";
import type { ConnectionKey } from "../model/connection.ts";
import { consentAuth, nonInteractiveAuth, type Route } from "../model/route.ts";
import type { Store } from "../store/store.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import { isAtUpstream, resourceCovers } from "./resource-metadata.ts";

/** Owner of a service's own token (`client_credentials`), distinct from every user id. */
const service = "service";

/** Limit of separate connections to endpoints of one route, since clients choose the paths. */
const maxEndpoints = 8;

/** The connection that a user's calls to a route use, normally for all its endpoints. */
export function upstreamConnection(userId: string, route: Route): ConnectionKey {
  const shared = nonInteractiveAuth(route)?.tokenOf === "service";
  return { userId: shared ? service : userId, routeId: route.id, upstream: route.upstream };
}

/** The connection of a single endpoint, whose token is not valid elsewhere on the route. */
export function endpointConnection(userId: string, route: Route): ConnectionKey {
  return { ...upstreamConnection(userId, route), upstream: endpointUrl(route) };
}

/**
 * Whether the user's connection to the route serves the requested endpoint: its token's resource covers it (RFC 8707). A token for one
 * endpoint is not sent to another that has its own metadata.
 *
 * @param token the connection's token; absent: the connection is for the first endpoint that needs it, or for `mcp.server.path`
 */
export function servesEndpoint(token: Pick<UpstreamToken, "resource"> | undefined, route: Route): boolean {
  if (route.askedPath === undefined || route.mcp.kind !== "server") return true;
  const last = token && lastAsked.get(token);
  if (last?.route === route) return last.serves;
  const serves = covers(token, route);
  if (token) lastAsked.set(token, { route, serves });
  return serves;
}

/** The latest result per token, so that a warm check parses no URLs. */
const lastAsked = new WeakMap<object, { readonly route: Route; readonly serves: boolean }>();

function covers(token: Pick<UpstreamToken, "resource"> | undefined, route: Route): boolean {
  if (route.mcp.kind !== "server") return true;
  // The operator sets the resource for the whole route.
  if (consentAuth(route)?.authorizationUrlParams.resource !== undefined) return true;
  const usual = askedAt(route, undefined);
  const resource = token ? token.resource : hasExplicitEndpoint(usual) ? endpointUrl(usual) : undefined;
  if (resource === undefined || !isAtUpstream(route, resource)) return true;
  return resourceCovers(resource, endpointUrl(route));
}

/** The stored connection that serves the requested endpoint. */
export async function connectionFor(
  { upstreamTokens }: { readonly upstreamTokens: Pick<Store["upstreamTokens"], "find"> },
  userId: string,
  route: Route,
): Promise<ConnectionKey> {
  const usual = upstreamConnection(userId, route);
  if (route.askedPath === undefined) return usual;
  const own = endpointConnection(userId, route);
  const token = await upstreamTokens.find(usual);
  if (!servesEndpoint(token, route)) return own;
  return token || !(await upstreamTokens.find(own)) ? usual : own;
}

/** Whether another endpoint of the route can have a separate connection. */
export async function mayAddEndpoint(
  { upstreamTokens }: { readonly upstreamTokens: Pick<Store["upstreamTokens"], "list"> },
  { userId, routeId, upstream }: ConnectionKey,
  route: Route,
): Promise<boolean> {
  if (upstream === route.upstream) return true;
  const known = await upstreamTokens.list({ userId, routeId });
  const ofEndpoints = known.filter((one) => isBelowUpstream(route, one.upstream));
  return ofEndpoints.length < maxEndpoints || ofEndpoints.some((one) => one.upstream === upstream);
}
