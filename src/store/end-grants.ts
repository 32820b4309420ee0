import type { AuditCause } from "./audit-events.ts";
import type { GrantOwner } from "./grants.ts";
import type { Store } from "./store.ts";

/** Which grants: of this user, of this client, or the one with this id. */
export type WhichGrants = Partial<GrantOwner>;

/** Revokes grants, as an administrator does, each with its audit event. Yields each revoked one. */
export async function* endGrants(
  { authorizationServerRecords: records }: Pick<Store, "authorizationServerRecords">,
  which: WhichGrants,
  cause: AuditCause,
): AsyncGenerator<GrantOwner> {
  async function* end(grants: readonly GrantOwner[]): AsyncGenerator<GrantOwner> {
    for (const { grantId, userId, clientId } of grants) {
      const grant = { grantId, userId, clientId };
      if (await records.revokeGrant(grantId, { action: "grant.revoked", ...grant, ...cause })) yield grant;
    }
  }
  for await (const grants of records.grantPages(which)) yield* end(grants);
  // Grants whose own row is gone or was changed, so that the list does not have them.
  yield* end(await records.grantsOfRecords(which));
}
