import { type ExpressionBuilder, type Selectable, sql, type Transaction } from "kysely";
import type { AuditEvent } from "./audit-event.ts";
import type { Database } from "./database.ts";
import { endDelegations, takeBack } from "./end-delegations.ts";
import { notify } from "./notify.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Delegation, Delegations } from "./store.ts";
import type { Tables } from "./tables.ts";
import { writeAuditEvent } from "./write-audit-event.ts";

const table = "delegation";
const now = sql<Date>`now()`;
const unexpired = (e: ExpressionBuilder<Tables, typeof table>) => e("expires_at", ">", now);

/** A change of rows that were there is on the record, and told to every replica. */
async function recordIfAny(
  tx: Transaction<Tables>,
  rows: readonly unknown[],
  grantId: string,
  audit: AuditEvent,
): Promise<boolean> {
  if (rows.length === 0) return false;
  await writeAuditEvent(tx, audit);
  await notify(tx, { table: "grant", grantId });
  return true;
}

/** Connections that their owners let service accounts use (F2.4). What changes here, changes what a grant may do. */
export function delegations(database: Database, macs: RowMacs): Delegations {
  const { clock } = database;

  function read(row: Selectable<Tables["delegation"]>): Delegation {
    return {
      grantId: row.grant_id,
      routeId: row.route_id,
      account: row.account,
      ownerId: row.owner_id,
      expiresAt: clock.fromDatabase(row.expires_at),
      ...(row.upstream !== null &&
        row.delegated_at !== null && {
          upstream: row.upstream,
          delegatedAt: clock.fromDatabase(row.delegated_at),
        }),
    };
  }

  async function list(column: "grant_id" | "owner_id", value: string): Promise<Delegation[]> {
    const rows = await database.read("delegation.list", (db) =>
      db
        .selectFrom(table)
        .selectAll()
        .where(column, "=", value)
        .where(unexpired)
        .orderBy("account")
        .orderBy("route_id")
        .execute(),
    );
    return (await macs.filter(table, rows)).map(read);
  }

  return {
    async give({ grantId, ownerId, routeId, upstream }, audit) {
      await macs.ready();
      return database.write("delegation.give", async (tx) => {
        // Locked, so that a disconnect at the same time comes before, and this is refused, or after, and ends it.
        const connection = await tx
          .selectFrom("upstream_token")
          .selectAll()
          .where("user_id", "=", ownerId)
          .where("route_id", "=", routeId)
          .where("upstream", "=", upstream)
          .forShare()
          .executeTakeFirst();
        if (connection === undefined || !macs.accepts("upstream_token", connection)) return false;
        const asked = await tx
          .selectFrom(table)
          .selectAll()
          .where("grant_id", "=", grantId)
          .where("route_id", "=", routeId)
          .where("owner_id", "=", ownerId)
          .where(unexpired)
          .forUpdate()
          .executeTakeFirst();
        if (asked === undefined || !macs.accepts(table, asked)) return false;
        const given = { upstream, delegated_at: clock.toDatabase(new Date()) };
        await tx
          .updateTable(table)
          .set({ ...given, mac: macs.sign(table, { ...asked, ...given }) })
          .where("grant_id", "=", grantId)
          .where("route_id", "=", routeId)
          .execute();
        return recordIfAny(tx, [asked], grantId, audit);
      });
    },

    async end({ grantId, ownerId, routeId }, audit) {
      await macs.ready();
      return database.write("delegation.end", async (tx) => {
        const rows = await tx
          .selectFrom(table)
          .selectAll()
          .where("grant_id", "=", grantId)
          .where("route_id", "=", routeId)
          .where("owner_id", "=", ownerId)
          .where("delegated_at", "is not", null)
          .forUpdate()
          .execute();
        for (const row of rows) await takeBack(tx, macs, row);
        return recordIfAny(tx, rows, grantId, audit);
      });
    },

    async endAllOf(ownerId, reason) {
      await macs.ready();
      return database.write("delegation.end_all", (tx) => endDelegations(tx, macs, { ownerId }, reason));
    },

    ofGrant: (grantId) => list("grant_id", grantId),
    ofOwner: (ownerId) => list("owner_id", ownerId),

    async owners() {
      const rows = await database.read("delegation.owners", (db) =>
        db
          .selectFrom(table)
          .select("owner_id")
          .distinct()
          .where("delegated_at", "is not", null)
          .where(unexpired)
          .execute(),
      );
      return rows.map((row) => row.owner_id);
    },
  };
}
