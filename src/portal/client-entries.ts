import { membersOf } from "../config/aggregates.ts";
import { routeOfResource } from "../config/resources.ts";
import type { Route } from "../model/route.ts";
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
      const table = deps.routes();
      const named = (resource: string) => routeOfResource(table, resource) ?? table.byResource(resource);
      const names = [...resources].map((resource) => named(resource)?.name ?? resource);
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
  const byId = new Map<string, { readonly route: Route; readonly grantIds: string[] }>();
  for (const grant of grants)
    for (const route of aggregatedRoutes(deps, grant)) {
      const entry = byId.get(route.id) ?? { route, grantIds: [] };
      byId.set(route.id, entry);
      entry.grantIds.push(grant.grantId);
    }
  return Promise.all(
    [...byId.values()].map(async ({ route, grantIds }) => {
      const allowed = [...(await deps.store.grantedMembers.ofGrants(grantIds)).values()];
      const members = membersOf(deps.routes().config, route)
        .map((member) => member.route)
        .filter(({ id, upstream }) => allowed.some((ofGrant) => ofGrant.get(id) === upstream));
      return { id: route.id, name: route.name, members: members.map(({ id, name }) => ({ id, name })) };
    }),
  );
}
