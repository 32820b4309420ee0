import { routeOfResource } from "../config/resources.ts";
import type { CurrentRoutes, RouteTable } from "../config/route-table.ts";
import { type NamedGrant, withClientNames } from "../external-tokens/client-names.ts";
import { resourcesOf } from "../portal/member-grants.ts";
import type { GrantSummary } from "../store/authorization-server-records.ts";
import { endGrants } from "../store/end-grants.ts";
import type { GrantOwner } from "../store/grants.ts";
import type { Store } from "../store/store.ts";
import { printable } from "../util/plain-text.ts";
import { cliActor, withStore } from "./command.ts";
import { type Listing, type ListingOptions, printPages } from "./listing.ts";

type Listed = NamedGrant & { readonly routeIds: readonly string[]; readonly members: readonly string[] };

const listing: Listing<Listed> = {
  cursor: ({ userId, grantId }) => [userId, grantId],
  columns: [
    ["grant", "grant_id", (one) => one.grantId],
    ["user", "user_id", (one) => one.userId],
    ["client", "client_id", (one) => one.clientId],
    ["client name", "client_name", (one) => one.clientName],
    ["routes", "route_ids", (one) => one.routeIds],
    ["granted", "granted_at", (one) => one.createdAt],
    ["last used", "last_used_at", (one) => one.lastUsedAt],
    ["members", "members", (one) => one.members],
  ],
};

/**
 * The commands `grants list` and `grants revoke`. Revoking all grants of a user signs the user out as well: in a browser that is still
 * signed in, the next client could get a grant immediately.
 * @param options.which grants of this user, of this client, or the one with this id
 * @param options.reason for the audit trail, when revoking
 * @returns the exit code; 1 if there was nothing to revoke.
 */
export function runGrants(
  action: "list" | "revoke",
  options: ListingOptions & {
    readonly which: { readonly userId?: string; readonly clientId?: string; readonly grantId?: string };
    readonly reason?: string;
  },
): Promise<number> {
  const { which, reason, out, err } = options;
  return withStore(options, async ({ store, routes }) => {
    const { authorizationServerRecords: records } = store;
    if (action === "list") {
      const [userId = "", grantId = ""] = options.after ?? [];
      const pages = records.grantPages(which, options.after && { userId, grantId });
      await printPages(options, listing, withNames(pages, { store, routes }));
      return 0;
    }
    let any = false;
    const print = ({ grantId, userId, clientId }: GrantOwner) => {
      out(`${printable(`revoked ${grantId} of ${userId} (${clientId})`)}\n`);
      any = true;
    };
    if (which.userId && !which.grantId && !which.clientId) {
      const { userId } = which;
      const audit = { action: "person.signed_out", actor: cliActor, reason } as const;
      const ended = await store.endAccessOfPerson(userId, audit);
      any = ended.wasSignedIn;
      if (any) out(`signed out ${userId}\n`);
      for (const grant of ended.grants) print(grant);
    } else for await (const grant of endGrants(store, which, { actor: cliActor, reason })) print(grant);
    if (any) return 0;
    err("no such grant; nothing was revoked\n");
    return 1;
  });
}

/** Adds the clients' names, and the members that grants of aggregated routes may use. */
async function* withNames(
  pages: AsyncIterable<readonly GrantSummary[]>,
  { store, routes }: { readonly store: Store; readonly routes: CurrentRoutes },
): AsyncGenerator<readonly Listed[]> {
  for await (const grants of pages) {
    const members = await store.grantedMembers.ofGrants(grants.map(({ grantId }) => grantId));
    yield (await withClientNames({ store, routes }, grants)).map((grant) => ({
      ...grant,
      routeIds: routesIn(grant, routes()),
      // A route that has moved to another upstream since is not allowed any more.
      members: [...(members.get(grant.grantId) ?? [])]
        .flatMap(([routeId, upstream]) => (routes().byId(routeId)?.upstream === upstream ? [routeId] : []))
        .toSorted(),
    }));
  }
}

/** The ids of a grant's routes; of one that is gone, its URL. A service account's grant names them. */
function routesIn({ payload }: GrantSummary, table: RouteTable): readonly string[] {
  const { routeIds } = payload;
  if (Array.isArray(routeIds)) return routeIds.filter((id) => typeof id === "string");
  return resourcesOf(payload).map((url) => routeOfResource(table, url)?.id ?? url);
}
