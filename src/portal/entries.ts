import { isBelowUpstream } from "../config/endpoint.ts";
import { needsPersonsConnection } from "../model/route.ts";
import type { ConnectionsPage } from "../pages/connections-page.ts";
import type { Person } from "../sign-in/sign-in.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import { type PortalDeps, reachableRoutes, serverStates } from "./portal.ts";

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
