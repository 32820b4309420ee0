import type { Route } from "../config/route.ts";
import type { ConnectionKey } from "../store/store.ts";

/** Whose a service's own token is (`client_credentials`): nobody's, so it can never be mistaken for a person's. */
const service = "service";

/** The connection that a user's calls to a route go over. */
export function upstreamConnection(userId: string, route: Route): ConnectionKey {
  const shared = route.mcp.kind === "server" && route.mcp.auth.type === "client_credentials";
  return { userId: shared ? service : userId, routeId: route.id, upstream: route.upstream };
}
