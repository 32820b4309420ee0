import { type ExpressionBuilder, type Selectable, sql, type Transaction } from "kysely";
import type { AuditEvent } from "./audit-event.ts";
import type { Database } from "./database.ts";
import { endDelegations } from "./end-delegations.ts";
import { notify } from "./notify.ts";
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
export function delegations(database: Database): Delegations {
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
    return rows.map(read);
  }

  return {
    give({ grantId, ownerId, routeId, upstream }, audit) {
      return database.write("delegation.give", async (tx) => {
        // Locked, so that a disconnect at the same time comes before, and this is refused, or after, and ends it.
        const connection = await tx
          .selectFrom("upstream_token")
          .select("version")
          .where("user_id", "=", ownerId)
          .where("route_id", "=", routeId)
          .where("upstream", "=", upstream)
          .forShare()
          .executeTakeFirst();
        if (connection === undefined) return false;
        const rows = await tx
          .updateTable(table)
          .set({ upstream, delegated_at: now })
          .where("grant_id", "=", grantId)
          .where("route_id", "=", routeId)
          .where("owner_id", "=", ownerId)
          .where(unexpired)
          .returning("grant_id")
          .execute();
        return recordIfAny(tx, rows, grantId, audit);
      });
    },

    end({ grantId, ownerId, routeId }, audit) {
      return database.write("delegation.end", async (tx) => {
        const rows = await tx
          .updateTable(table)
          .set({ upstream: null, delegated_at: null })
          .where("grant_id", "=", grantId)
          .where("route_id", "=", routeId)
          .where("owner_id", "=", ownerId)
          .where("delegated_at", "is not", null)
          .returning("grant_id")
          .execute();
        return recordIfAny(tx, rows, grantId, audit);
      });
    },

    endAllOf: (ownerId, reason) =>
      database.write("delegation.end_all", (tx) => endDelegations(tx, { ownerId }, reason)),

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
