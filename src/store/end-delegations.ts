import type { Selectable, Transaction } from "kysely";
import { notify } from "./notify.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";
import { writeAuditEvent } from "./write-audit-event.ts";

/**
 * Ends what an owner has delegated, all of it or one connection, in the transaction of what ends it; told to every replica.
 * @returns how many there were
 */
export async function endDelegations(
  tx: Transaction<Tables>,
  macs: Pick<RowMacs, "sign" | "accepts">,
  { ownerId, routeId, upstream }: { ownerId: string; routeId?: string; upstream?: string },
  reason: string,
): Promise<number> {
  let given = tx
    .selectFrom("delegation")
    .selectAll()
    .where("owner_id", "=", ownerId)
    .where("delegated_at", "is not", null);
  if (routeId !== undefined) given = given.where("route_id", "=", routeId);
  if (upstream !== undefined) given = given.where("upstream", "=", upstream);
  const rows = await given.forUpdate().execute();
  for (const row of rows) {
    const { grant_id: grantId, route_id, account, upstream: at } = row;
    await takeBack(tx, macs, row);
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

/** Takes from a row what its owner had given. A row that was not written here does not become one of ours by that. */
export async function takeBack(
  tx: Transaction<Tables>,
  macs: Pick<RowMacs, "sign" | "accepts">,
  row: Selectable<Tables["delegation"]>,
): Promise<void> {
  const ended = { upstream: null, delegated_at: null };
  const mac = macs.accepts("delegation", row) ? macs.sign("delegation", { ...row, ...ended }) : null;
  await tx
    .updateTable("delegation")
    .set({ ...ended, mac })
    .where("grant_id", "=", row.grant_id)
    .where("route_id", "=", row.route_id)
    .execute();
}
