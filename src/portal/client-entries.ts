import { membersOf } from "../config/aggregates.ts";
import type { ConnectionsPage } from "../pages/connections-page.ts";
import type { GrantSummary } from "../store/authorization-server-records.ts";
import { aggregatedRoutes, resourcesOf } from "./member-grants.ts";
import type { PortalDeps } from "./server-states.ts";

type Deps = Pick<PortalDeps, "routes" | "store">;

/** The MCP clients that a user has allowed, most recently active first. */
export async function clientEntries(
  deps: Deps & Pick<PortalDeps, "describeClient">,
  userId: string,
): Promise<ConnectionsPage["clients"]> {
  const grants = await deps.store.authorizationServerRecords.grants({ userId });
  const byClient = Map.groupBy(grants, ({ clientId }) => clientId);
  const entries = await Promise.all(
    [...byClient].map(async ([clientId, ofClient]) => {
      const resources = new Set(ofClient.flatMap(({ payload }) => resourcesOf(payload)));
      const names = [...resources].map((resource) => deps.routes().byResource(resource)?.name ?? resource);
      const ends = ofClient.flatMap(({ payload: { exp } }) => (typeof exp === "number" ? [exp * 1000] : []));
      return {
        ...(await deps.describeClient(clientId)),
        servers: [...new Set(names)],
        through: await aggregatesOf(deps, ofClient),
        allowedAt: new Date(Math.max(...ofClient.map(({ createdAt }) => createdAt.getTime()))),
        lastUsedAt: new Date(Math.max(...ofClient.map(({ lastUsedAt }) => lastUsedAt.getTime()))),
        ends: ends.length > 0 ? new Date(Math.max(...ends)) : undefined,
      };
    }),
  );
  return entries.toSorted((a, b) => b.lastUsedAt.getTime() - a.lastUsedAt.getTime());
}

/** The aggregated routes of a client's grants, each with the members that one of the grants may use. */
async function aggregatesOf(
  deps: Deps,
  grants: readonly GrantSummary[],
): Promise<ConnectionsPage["clients"][number]["through"]> {
  const byRoute = Map.groupBy(
    grants.flatMap((grant) => aggregatedRoutes(deps, grant).map((route) => ({ route, grant }))),
    ({ route }) => route,
  );
  return Promise.all(
    [...byRoute].map(async ([route, ofRoute]) => {
      const allowed = await deps.store.grantedMembers.ofGrants(ofRoute.map(({ grant }) => grant.grantId));
      const members = membersOf(deps.routes().config, route)
        .map((member) => member.route)
        .filter(({ id, upstream }) => [...allowed.values()].some((members) => members.get(id) === upstream));
      return { id: route.id, name: route.name, members: members.map(({ id, name }) => ({ id, name })) };
    }),
  );
}
