import { type ExpressionBuilder, type Selectable, sql, type Transaction } from "kysely";
import { type AuditEvent, writeAuditEvent } from "./audit-events.ts";
import type { Database } from "./database.ts";
import { notify } from "./notifications/notifications.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

/**
 * Ends an owner's delegations, all of them or those of one connection, in the caller's transaction, and notifies every replica.
 * @returns number of ended delegations
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
    await clearConsent(tx, macs, row);
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

/** Clears the owner's consent in a row. A forged row does not get a valid MAC. */
export async function clearConsent(
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

/** A service account's request to use its owner's connection, and whether the owner has consented. */
export interface Delegation {
  /** The service account's grant; the delegation ends with it. */
  readonly grantId: string;
  readonly routeId: string;
  /** `service-account/NAME`. */
  readonly account: string;
  readonly ownerId: string;
  /** Upstream of the delegated connection; absent: none is delegated. */
  readonly upstream?: string;
  readonly delegatedAt?: Date;
  readonly expiresAt: Date;
}

/** The connections that a new service account requests from its owner. */
export type RequestedDelegations = Pick<Delegation, "account" | "ownerId" | "expiresAt"> & {
  readonly routeIds: readonly string[];
};

export interface Delegations {
  /** Stores the owner's consent and notifies every replica. False: not requested from this owner, or no such connection. */
  give(
    which: Pick<Delegation, "grantId" | "ownerId" | "routeId"> & { readonly upstream: string },
    audit: AuditEvent,
  ): Promise<boolean>;
  /** Ends a delegation and notifies every replica. False: there was none. */
  end(which: Pick<Delegation, "grantId" | "ownerId" | "routeId">, audit: AuditEvent): Promise<boolean>;
  /** Ends all delegations of a person and returns their number. A disconnect ends those of its connection by itself. */
  endAllOf(ownerId: string, reason: string): Promise<number>;
  ofGrant(grantId: string): Promise<Delegation[]>;
  /** The same of several grants, at most a page of them, by grant id; grants without delegations are left out. */
  ofGrants(grantIds: readonly string[]): Promise<ReadonlyMap<string, readonly Delegation[]>>;
  ofOwner(ownerId: string): Promise<Delegation[]>;
  /**
   * User ids of owners with delegations whose sign-in was last checked before this time, from one page of owners.
   * @param after as `next` of the page before; "" for the first
   */
  ownersToCheck(
    checkedBefore: Date,
    after: string,
    limit: number,
  ): Promise<{ readonly owners: readonly string[]; readonly next?: string }>;
}

const table = "delegation";
const now = sql<Date>`now()`;
const unexpired = (e: ExpressionBuilder<Tables, typeof table>) => e("expires_at", ">", now);

/** If rows were changed, writes the audit event and notifies every replica. */
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

/** Connections that owners delegate to service accounts. A change is notified as a change of the grant. */
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

  async function list(column: "grant_id" | "owner_id", ...values: readonly string[]): Promise<Delegation[]> {
    if (values.length === 0) return [];
    const rows = await database.read("delegation.list", (db) =>
      db
        .selectFrom(table)
        .selectAll()
        .where(column, "in", values)
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
        // Locked, so that a concurrent disconnect either comes first, and this fails, or comes later and ends the delegation.
        const connection = await tx
          .selectFrom("upstream_token")
          .selectAll()
          .where("user_id", "=", ownerId)
          .where("route_id", "=", routeId)
          .where("upstream", "=", upstream)
          .forShare()
          .executeTakeFirst();
        if (connection === undefined || !macs.accepts("upstream_token", connection)) return false;
        const requested = await tx
          .selectFrom(table)
          .selectAll()
          .where("grant_id", "=", grantId)
          .where("route_id", "=", routeId)
          .where("owner_id", "=", ownerId)
          .where(unexpired)
          .forUpdate()
          .executeTakeFirst();
        if (requested === undefined || !macs.accepts(table, requested)) return false;
        const given = { upstream, delegated_at: clock.toDatabase(new Date()) };
        await tx
          .updateTable(table)
          .set({ ...given, mac: macs.sign(table, { ...requested, ...given }) })
          .where("grant_id", "=", grantId)
          .where("route_id", "=", routeId)
          .execute();
        return recordIfAny(tx, [requested], grantId, audit);
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
        for (const row of rows) await clearConsent(tx, macs, row);
        return recordIfAny(tx, rows, grantId, audit);
      });
    },

    async endAllOf(ownerId, reason) {
      await macs.ready();
      return database.write("delegation.end_all", (tx) => endDelegations(tx, macs, { ownerId }, reason));
    },

    ofGrant: (grantId) => list("grant_id", grantId),
    ofOwner: (ownerId) => list("owner_id", ownerId),

    async ownersToCheck(checkedBefore, after, limit) {
      // Jumps in the index from one owner to the next.
      const { rows } = await database.read("delegation.owners", (db) =>
        sql<{ owner_id: string; due: boolean }>`
          with recursive found as (
            (select owner_id from delegation where owner_id > ${after} order by owner_id limit 1)
            union all
            select (select owner_id from delegation where owner_id > found.owner_id order by owner_id limit 1)
            from found where found.owner_id is not null)
          select owner_id,
            coalesce((select checked_at from sign_in_session where user_id = found.owner_id) < ${checkedBefore}, false)
              and exists (select from delegation
                where owner_id = found.owner_id and delegated_at is not null and expires_at > now()) as due
          from found where owner_id is not null limit ${limit}`.execute(db),
      );
      const owners = rows.filter(({ due }) => due).map((row) => row.owner_id);
      return { owners, next: rows.length === limit ? rows.at(-1)?.owner_id : undefined };
    },

    ofGrants: async (grantIds) => Map.groupBy(await list("grant_id", ...grantIds), ({ grantId }) => grantId),
  };
}
