import { isBelowUpstream } from "../config/endpoint.ts";
import type { ConnectionsPage } from "../pages/connections-page.ts";
import type { Person } from "../sign-in/sign-in.ts";
import type { UpstreamToken } from "../store/store.ts";
import type { PortalDeps } from "./portal-deps.ts";
import { reachableRoutes } from "./reachable-routes.ts";
import { serverStates } from "./server-states.ts";

/** A person's servers for the portal: those policy lets them use, and those they are still connected to though it no longer does. */
export async function connectionEntries(
  deps: Pick<PortalDeps, "routes" | "mayReach" | "store" | "upstreamTokens" | "endpointPath">,
  person: Person,
): Promise<ConnectionsPage["servers"]> {
  const states = await serverStates(deps, person.userId, reachableRoutes(deps, person));
  const tokens = await deps.store.upstreamTokens.listForUser(person.userId);
  const tokenFor = new Map(tokens.map((token) => [`${token.routeId} ${token.upstream}`, token]));
  const listed = states.map(({ route, url, state }) => {
    const token =
      tokenFor.get(`${route.id} ${route.upstream}`) ??
      tokens.find((one) => one.routeId === route.id && isBelowUpstream(route, one.upstream));
    const consented = route.mcp.kind === "server" && route.mcp.auth.type === "oauth";
    return {
      id: route.id,
      name: route.name,
      description: route.description,
      logoUrl: route.logoUrl,
      url,
      // What comes without the person's consent is not theirs to make or give up.
      state: consented
        ? token && state === "missing"
          ? "connected"
          : state
        : state === "unavailable"
          ? state
          : ("not_needed" as const),
      ...(consented && token && timesOf(token)),
    };
  });
  const shown = new Set(listed.map(({ id }) => id));
  const left = tokens.flatMap((token) => {
    const route = deps.routes().byId(token.routeId);
    if (!route || shown.has(route.id) || route.upstream !== token.upstream) return [];
    const { id, name, description, logoUrl, resource: url } = route;
    return [{ id, name, description, logoUrl, url, state: "not_allowed" as const, ...timesOf(token) }];
  });
  return [...listed, ...left];
}

function timesOf({ connectedAt, lastUsedAt, refreshToken, expiresAt, refreshExpiresAt }: UpstreamToken) {
  // A token that is renewed lives as long as what renews it.
  const ends = refreshToken ? refreshExpiresAt : expiresAt;
  return { connection: { connectedAt, lastUsedAt, ends } };
}
