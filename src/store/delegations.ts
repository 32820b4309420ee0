import { type ExpressionBuilder, type Selectable, sql, type Transaction } from "kysely";
import { type AuditEvent, writeAuditEvent } from "./audit-events.ts";
import type { Database } from "./database.ts";
import { notify } from "./notifications/notifications.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

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

/** A service account that may ask for the use of its owner's connection, and whether it has been given it. */
export interface Delegation {
  /** The service account's; ends with it. */
  readonly grantId: string;
  readonly routeId: string;
  /** `service-account/NAME`. */
  readonly account: string;
  readonly ownerId: string;
  /** Where the connection leads that the owner has delegated; absent: none. */
  readonly upstream?: string;
  readonly delegatedAt?: Date;
  readonly expiresAt: Date;
}

/** What an account asks its owner for when its grant is made. */
export type DelegationsAsked = Pick<Delegation, "account" | "ownerId" | "expiresAt"> & {
  readonly routeIds: readonly string[];
};

export interface Delegations {
  /** The owner's consent, told to every replica. False: nobody asks this owner for that, or there is no such connection. */
  give(
    which: Pick<Delegation, "grantId" | "ownerId" | "routeId"> & { readonly upstream: string },
    audit: AuditEvent,
  ): Promise<boolean>;
  /** Takes it back, told to every replica. False: it was not given. */
  end(which: Pick<Delegation, "grantId" | "ownerId" | "routeId">, audit: AuditEvent): Promise<boolean>;
  /** Of a person who has gone; how many there were. Disconnecting ends those of one connection by itself. */
  endAllOf(ownerId: string, reason: string): Promise<number>;
  ofGrant(grantId: string): Promise<Delegation[]>;
  ofOwner(ownerId: string): Promise<Delegation[]>;
  /** Those who have delegated something. */
  owners(): Promise<string[]>;
}

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

/** Connections that their owners let service accounts use. What changes here, changes what a grant may do. */
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
      return database.write("delegation.create", async (tx) => {
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
