import { askedAt, endpointUrl, hasExplicitEndpoint, isBelowUpstream } from "../config/endpoint.ts";
import type { ConnectionKey } from "../model/connection.ts";
import { consentAuth, nonInteractiveAuth, type Route } from "../model/route.ts";
import type { Store } from "../store/store.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import { isAtUpstream, resourceCovers } from "./resource-metadata.ts";

/** Whose a service's own token is (`client_credentials`): nobody's, so it can never be mistaken for a person's. */
const service = "service";

/** Endpoints of one route that a person can be connected to apart from the first one: clients choose the paths. */
const mostEndpoints = 8;

/** The connection that a user's calls to a route go over; one that serves all of its endpoints, as a rule. */
export function upstreamConnection(userId: string, route: Route): ConnectionKey {
  const shared = nonInteractiveAuth(route)?.tokenOf === "service";
  return { userId: shared ? service : userId, routeId: route.id, upstream: route.upstream };
}

/** The connection of one endpoint alone, whose token is of use nowhere else on the route. */
export function endpointConnection(userId: string, route: Route): ConnectionKey {
  return { ...upstreamConnection(userId, route), upstream: endpointUrl(route) };
}

/**
 * Whether the user's connection to the route is for the endpoint that is asked for: its token's resource covers it (RFC 8707). A token
 * of one endpoint is not sent to another that has metadata of its own.
 *
 * @param token the connection's; absent: it is for the first endpoint that needs it, or for what `mcp.server.path` names
 */
export function servesEndpoint(token: Pick<UpstreamToken, "resource"> | undefined, route: Route): boolean {
  if (route.askedPath === undefined || route.mcp.kind !== "server") return true;
  const last = token && lastAsked.get(token);
  if (last?.route === route) return last.serves;
  const serves = covers(token, route);
  if (token) lastAsked.set(token, { route, serves });
  return serves;
}

/** What was found for a token the last time: a warm check parses no URLs. */
const lastAsked = new WeakMap<object, { readonly route: Route; readonly serves: boolean }>();

function covers(token: Pick<UpstreamToken, "resource"> | undefined, route: Route): boolean {
  if (route.mcp.kind !== "server") return true;
  // The operator says which resource it is, for all of the route.
  if (consentAuth(route)?.authorizationUrlParams.resource !== undefined) return true;
  const usual = askedAt(route, undefined);
  const resource = token ? token.resource : hasExplicitEndpoint(usual) ? endpointUrl(usual) : undefined;
  if (resource === undefined || !isAtUpstream(route, resource)) return true;
  return resourceCovers(resource, endpointUrl(route));
}

/** The connection that serves the endpoint that is asked for, by what is stored. */
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

/** Whether one more endpoint of the route can be connected apart from the others. */
export async function hasRoomFor(
  { upstreamTokens }: { readonly upstreamTokens: Pick<Store["upstreamTokens"], "list"> },
  { userId, routeId, upstream }: ConnectionKey,
  route: Route,
): Promise<boolean> {
  if (upstream === route.upstream) return true;
  const known = await upstreamTokens.list({ userId, routeId });
  const apart = known.filter((one) => isBelowUpstream(route, one.upstream));
  return apart.length < mostEndpoints || apart.some((one) => one.upstream === upstream);
}
