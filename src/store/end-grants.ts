import type { AuditCause } from "./audit-events.ts";
import type { GrantSummary } from "./authorization-server-records.ts";
import type { Store } from "./store.ts";

/** Which grants: of this user, of this client, or the one with this id. */
export type WhichGrants = Pick<Partial<GrantSummary>, "userId" | "clientId" | "grantId">;

/** Revokes grants, as an administrator does, each with its audit event. Yields each revoked one. */
export async function* endGrants(
  { authorizationServerRecords: records }: Pick<Store, "authorizationServerRecords">,
  which: WhichGrants,
  cause: AuditCause,
): AsyncGenerator<GrantSummary> {
  for await (const grants of records.grantPages(which))
    for (const grant of grants) {
      const { grantId, userId, clientId } = grant;
      await records.revokeGrant(grantId, { action: "grant.revoked", userId, clientId, grantId, ...cause });
      yield grant;
    }
}
