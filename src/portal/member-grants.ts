import { membersOf } from "../config/aggregates.ts";
import { routeOfResource } from "../config/resources.ts";
import { aggregateOf, type Route } from "../model/route.ts";
import type { AuditEvent } from "../store/audit-events.ts";
import type { PortalDeps } from "./server-states.ts";

type Deps = Pick<PortalDeps, "routes" | "store">;

/** A member of an aggregated route that a client may use, or is to use. */
interface Membership {
  readonly userId: string;
  /** Id of the aggregated route. */
  readonly aggregate: string;
  /** Id of the member. */
  readonly routeId: string;
}

/** The aggregated routes that a grant is for. */
export function aggregatedRoutes(
  { routes }: Pick<Deps, "routes">,
  { payload }: { readonly payload: Readonly<Record<string, unknown>> },
): readonly Route[] {
  return resourcesOf(payload).flatMap((resource) => {
    const route = routeOfResource(routes(), resource);
    return route && aggregateOf(route) ? [route] : [];
  });
}

/** oidc-provider stores a grant's scopes by resource. */
export function resourcesOf({ resources }: Readonly<Record<string, unknown>>): readonly string[] {
  return typeof resources === "object" && resources !== null ? Object.keys(resources) : [];
}

/**
 * Lets a grant use a member that its user has allowed after the consent page: through a consent link.
 * @returns false unless the grant is live, the user's and for the aggregated route, which has this member
 */
export async function allowMember(
  deps: Deps,
  allowed: Membership & { readonly grantId: string; readonly requestId?: string },
): Promise<boolean> {
  const { routes, store } = deps;
  const { grantId, userId, aggregate, routeId, requestId } = allowed;
  const grant = await store.authorizationServerRecords.find("Grant", grantId);
  const route = grant && aggregatedRoutes(deps, grant).find(({ id }) => id === aggregate);
  const members = route ? membersOf(routes().config, route) : [];
  const member = members.find((one) => one.route.id === routeId)?.route;
  if (!member) return false;
  const { upstream } = member;
  const reason = "allowed by the user";
  return store.grantedMembers.allow({ grantId, userId }, [{ routeId, upstream }], { requestId, reason });
}

/** Removes a member from all grants of a client for an aggregated route: to the user, they are one application. */
export async function removeMember(
  deps: Deps,
  { userId, clientId, aggregate, routeId }: Membership & { readonly clientId: string },
  audit: Pick<AuditEvent, "requestId">,
): Promise<void> {
  const { authorizationServerRecords: records, grantedMembers } = deps.store;
  const reason = "removed by the user";
  for (const grant of await records.grants({ userId, clientId }))
    if (aggregatedRoutes(deps, grant).some(({ id }) => id === aggregate))
      await grantedMembers.remove(grant.grantId, routeId, { ...audit, userId, clientId, reason });
}
