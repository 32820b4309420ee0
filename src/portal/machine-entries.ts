import { needsPersonsConnection } from "../model/route.ts";
import type { ConnectionsPage } from "../pages/connections-page.ts";
import type { PortalDeps } from "./portal-deps.ts";

/** The service accounts that ask for the use of a person's connections, and those that have it (F2.4). */
export async function machineEntries(
  deps: Pick<PortalDeps, "routes" | "store">,
  ownerId: string,
): Promise<ConnectionsPage["machines"]> {
  const { store } = deps;
  const delegations = await store.delegations.ofOwner(ownerId);
  if (delegations.length === 0) return [];
  const connections = await store.upstreamTokens.list({ userId: ownerId });
  return delegations.flatMap(({ grantId, account, routeId, upstream, delegatedAt, expiresAt }) => {
    const route = deps.routes().byId(routeId);
    if (!route || !needsPersonsConnection(route)) return [];
    // Delegated for a place to which the route leads no longer: as if it had not been.
    const since = upstream === route.upstream ? delegatedAt : undefined;
    return {
      grantId,
      name: account.replace(/^service-account\//, ""),
      routeId,
      server: route.name,
      connected: connections.some((one) => one.routeId === routeId && one.upstream === route.upstream),
      delegatedAt: since,
      ends: expiresAt,
    };
  });
}
