import type { ConnectionsPage } from "../pages/connections-page.ts";
import type { PortalDeps } from "./portal-deps.ts";

/** The MCP clients that a person has let act for them, most recently active first. */
export async function clientEntries(
  deps: Pick<PortalDeps, "routes" | "store" | "describeClient">,
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
        allowedAt: new Date(Math.max(...ofClient.map(({ createdAt }) => createdAt.getTime()))),
        lastUsedAt: new Date(Math.max(...ofClient.map(({ lastUsedAt }) => lastUsedAt.getTime()))),
        ends: ends.length > 0 ? new Date(Math.max(...ends)) : undefined,
      };
    }),
  );
  return entries.toSorted((a, b) => b.lastUsedAt.getTime() - a.lastUsedAt.getTime());
}

/** oidc-provider keeps a grant's scopes by resource. */
function resourcesOf({ resources }: Readonly<Record<string, unknown>>): readonly string[] {
  return typeof resources === "object" && resources !== null ? Object.keys(resources) : [];
}
