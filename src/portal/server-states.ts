import { listedPath } from "../config/endpoint.ts";
import type { Route } from "../model/route.ts";
import type { PortalDeps } from "./portal-deps.ts";
import type { ServerState } from "./server-state.ts";

/** One server that does not answer must not hold up the list of all, ms. */
const patienceMs = 3000;

/**
 * Looks at somebody's connections, each as it works now: an expired token is refreshed first (F5.2).
 * Rejects only when the store does.
 */
export function serverStates(
  { upstreamTokens, endpointPath }: Pick<PortalDeps, "upstreamTokens" | "endpointPath">,
  userId: string,
  routes: readonly Route[],
): Promise<ServerState[]> {
  return Promise.all(
    routes.map(async (route) => {
      const found = upstreamTokens.connectionState(userId, route).then(({ state }) => state);
      const path = listedPath(route) ?? endpointPath?.(route) ?? "";
      const [state, below] = await Promise.all([
        withinPatience<ServerState["state"]>(found, "unavailable"),
        withinPatience(Promise.resolve(path), ""),
      ]);
      return { route, url: route.resource + below, state };
    }),
  );
}

function withinPatience<T>(value: Promise<T>, otherwise: T): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(otherwise), patienceMs);
    value.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
