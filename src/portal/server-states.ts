import type { Route } from "../config/route.ts";
import type { PortalDeps } from "./portal-deps.ts";
import type { ServerState } from "./server-state.ts";

/** One server that does not answer must not hold up the list of all, ms. */
const patienceMs = 3000;

/**
 * Looks at somebody's connections, each as it works now: an expired token is refreshed first (F5.2).
 * Rejects only when the store does.
 */
export function serverStates(
  { upstreamTokens }: Pick<PortalDeps, "upstreamTokens">,
  userId: string,
  routes: readonly Route[],
): Promise<ServerState[]> {
  return Promise.all(
    routes.map(async (route) => {
      const path = route.mcp.kind === "server" && route.mcp.path !== "/" ? route.mcp.path : "";
      const state = await withinPatience(
        upstreamTokens.connectionState(userId, route).then((found) => found.state),
      );
      return { route, url: route.resource + path, state };
    }),
  );
}

function withinPatience(state: Promise<ServerState["state"]>): Promise<ServerState["state"]> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve("unavailable"), patienceMs);
    state.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
