import type { Transaction } from "kysely";
import { notify } from "./notify.ts";
import type { Tables } from "./tables.ts";
import { writeAuditEvent } from "./write-audit-event.ts";

/**
 * Ends what an owner has delegated, all of it or one connection, in the transaction of what ends it; told to every replica.
 * @returns how many there were
 */
export async function endDelegations(
  tx: Transaction<Tables>,
  { ownerId, routeId, upstream }: { ownerId: string; routeId?: string; upstream?: string },
  reason: string,
): Promise<number> {
  let given = tx
    .selectFrom("delegation")
    .select(["grant_id", "route_id", "account", "upstream"])
    .where("owner_id", "=", ownerId)
    .where("delegated_at", "is not", null);
  if (routeId !== undefined) given = given.where("route_id", "=", routeId);
  if (upstream !== undefined) given = given.where("upstream", "=", upstream);
  const rows = await given.forUpdate().execute();
  for (const { grant_id: grantId, route_id, account, upstream: at } of rows) {
    await tx
      .updateTable("delegation")
      .set({ upstream: null, delegated_at: null })
      .where("grant_id", "=", grantId)
      .where("route_id", "=", route_id)
      .execute();
    await writeAuditEvent(tx, {
      action: "delegation.ended",
      userId: ownerId,
      grantId,
      routeId: route_id,
      ...(at !== null && { upstream: at }),
      reason,
      detail: { account },
    });
    await notify(tx, { table: "grant", grantId });
  }
  return rows.length;
}
