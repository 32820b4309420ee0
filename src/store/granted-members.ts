import { type Selectable, sql, type Transaction } from "kysely";
import { type AuditEvent, writeAuditEvent } from "./audit-events.ts";
import type { Database, DatabaseClock } from "./database.ts";
import { hashedHandle } from "./hashed-handle.ts";
import { type Notifications, notify } from "./notifications/notifications.ts";
import { type CacheLimits, createNotifiedCache } from "./notified-cache.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

/** A member of an aggregated route, as a person has allowed it. */
export interface GrantedMember {
  readonly routeId: string;
  /** `Route.upstream`: a later route of the same id with another upstream is not allowed. */
  readonly upstream: string;
}

/** Which members of an aggregated route each grant may use. They end with the grant. */
export interface StoredGrantedMembers {
  /**
   * Adds members to a grant in one transaction, with an audit event for each new one, and notifies every replica.
   * @param grant.userId whose grant it must be
   * @returns false if there is no such live grant; nothing is stored then
   */
  allow(
    grant: { readonly grantId: string; readonly userId: string },
    members: readonly GrantedMember[],
    audit: Pick<AuditEvent, "reason" | "requestId">,
  ): Promise<boolean>;
  /** Removes a member from a grant and notifies every replica. False: the grant did not have it. */
  remove(
    grantId: string,
    routeId: string,
    audit: Pick<AuditEvent, "userId" | "clientId" | "reason" | "requestId">,
  ): Promise<boolean>;
  /** Upstreams by route id. */
  of(grantId: string): Promise<ReadonlyMap<string, string>>;
  /** The same of several grants, by grant id; grants without members are left out. */
  ofGrants(grantIds: readonly string[]): Promise<ReadonlyMap<string, ReadonlyMap<string, string>>>;
}

const table = "granted_member";
/** How many grants one statement asks about. */
const batchSize = 500;

/** Writes the members of a grant, in the caller's transaction. */
export async function putMembers(
  tx: Transaction<Tables>,
  deps: { readonly macs: Pick<RowMacs, "sign">; readonly clock: Pick<DatabaseClock, "toDatabase"> },
  grant: { readonly grantId: string; readonly expiresAt?: Date },
  members: readonly GrantedMember[],
): Promise<void> {
  const expires_at = grant.expiresAt === undefined ? null : deps.clock.toDatabase(grant.expiresAt);
  const rows = members.map(({ routeId, upstream }) => {
    const row = { grant_id: grant.grantId, route_id: routeId, upstream, expires_at };
    return { ...row, mac: deps.macs.sign(table, row) };
  });
  if (rows.length === 0) return;
  await tx
    .insertInto(table)
    .values(rows)
    .onConflict((conflict) =>
      conflict.columns(["grant_id", "route_id"]).doUpdateSet((e) => ({
        upstream: e.ref("excluded.upstream"),
        expires_at: e.ref("excluded.expires_at"),
        mac: e.ref("excluded.mac"),
      })),
    )
    .execute();
}

/** The members that the grants may use. A change is notified as a change of the grant. */
export function grantedMembers(database: Database, macs: RowMacs): StoredGrantedMembers {
  const { clock } = database;

  /** Undefined unless it is live and this user's. Locked until the transaction ends, so that a revocation waits. */
  async function lockGrant(tx: Transaction<Tables>, grantId: string, userId: string) {
    const grant = await tx
      .selectFrom("authorization_server_record")
      .selectAll()
      .where("model", "=", "Grant")
      .where("id_name", "=", hashedHandle(grantId))
      .where((e) => e.or([e("expires_at", "is", null), e("expires_at", ">", sql<Date>`now()`)]))
      .forShare()
      .executeTakeFirst();
    if (grant === undefined || !macs.accepts("authorization_server_record", grant)) return undefined;
    return grant.user_id === userId ? grant : undefined;
  }

  function rowsOf(tx: Pick<Transaction<Tables>, "selectFrom">, grantId: string) {
    return tx.selectFrom(table).selectAll().where("grant_id", "=", grantId);
  }

  return {
    async allow({ grantId, userId }, members, audit) {
      await macs.ready();
      return database.write("granted_member.allow", async (tx) => {
        // Before the grant is locked: `endAccess` locks the tables in this order.
        await sql`lock table ${sql.table(table)} in row exclusive mode`.execute(tx);
        const grant = await lockGrant(tx, grantId, userId);
        if (grant === undefined) return false;
        const before = membersIn(
          (await rowsOf(tx, grantId).execute()).filter((row) => macs.accepts(table, row)),
        );
        const added = members.filter(({ routeId, upstream }) => before.get(routeId) !== upstream);
        if (added.length === 0) return true;
        const expiresAt = grant.expires_at === null ? undefined : clock.fromDatabase(grant.expires_at);
        await putMembers(tx, { macs, clock }, { grantId, expiresAt }, added);
        const clientId = grant.client_id ?? undefined;
        for (const { routeId, upstream } of added)
          await writeAuditEvent(tx, {
            ...{ action: "granted_member.added", userId, clientId, grantId, routeId, upstream },
            ...audit,
          });
        await notify(tx, { table: "grant", grantId });
        return true;
      });
    },

    remove(grantId, routeId, audit) {
      return database.write("granted_member.remove", async (tx) => {
        const [removed] = await tx
          .deleteFrom(table)
          .where("grant_id", "=", grantId)
          .where("route_id", "=", routeId)
          .returning("upstream")
          .execute();
        if (removed === undefined) return false;
        const { upstream } = removed;
        await writeAuditEvent(tx, {
          ...{ action: "granted_member.removed", grantId, routeId, upstream, ...audit },
        });
        await notify(tx, { table: "grant", grantId });
        return true;
      });
    },

    async of(grantId) {
      const rows = await database.read("granted_member.list", (db) => rowsOf(db, grantId).execute());
      return membersIn(await macs.filter(table, rows));
    },

    async ofGrants(grantIds) {
      const found = new Map<string, Map<string, string>>();
      for (let at = 0; at < grantIds.length; at += batchSize) {
        const batch = grantIds.slice(at, at + batchSize);
        const rows = await database.read("granted_member.list", (db) =>
          db.selectFrom(table).selectAll().where("grant_id", "in", batch).execute(),
        );
        const byGrant = Map.groupBy(await macs.filter(table, rows), (row) => row.grant_id);
        for (const [grantId, ofGrant] of byGrant) found.set(grantId, membersIn(ofGrant));
      }
      return found;
    },
  };
}

function membersIn(rows: readonly Selectable<Tables["granted_member"]>[]): Map<string, string> {
  return new Map(rows.map((row) => [row.route_id, row.upstream]));
}

/** The members that each grant may use, cached while change notifications arrive. */
export interface GrantedMembers {
  /**
   * Ids of the member routes of a grant; none if there is no such grant. Synchronous, without I/O, if cached and notifications are
   * healthy. Rejects if the store is unavailable.
   */
  of(grantId: string): ReadonlySet<string> | Promise<ReadonlySet<string>>;
  close(): void;
}

/**
 * Caches granted members: a change takes effect on every replica within a second.
 * @param upstreamOf `Route.upstream` of the current route with this id
 */
export function createGrantedMembers(deps: {
  readonly store: { readonly grantedMembers: StoredGrantedMembers; readonly notifications: Notifications };
  readonly upstreamOf: (routeId: string) => string | undefined;
  readonly limits: CacheLimits;
  readonly onEvict?: () => void;
}): GrantedMembers {
  const { store, upstreamOf, limits, onEvict } = deps;
  const cache = createNotifiedCache<ReadonlyMap<string, string>>({
    notifications: store.notifications,
    read: (grantId) => store.grantedMembers.of(grantId),
    changedKey: (change) => (change.table === "grant" ? change.grantId : undefined),
    sizeOf: (members) => 512 + 512 * members.size,
    ...{ limits, onEvict },
  });

  /** The configuration may have changed since the value was cached. */
  const current = (members: ReadonlyMap<string, string> = new Map()): ReadonlySet<string> =>
    new Set(
      [...members].flatMap(([routeId, upstream]) => (upstreamOf(routeId) === upstream ? [routeId] : [])),
    );

  return {
    of(grantId) {
      const found = cache.find(grantId);
      return found instanceof Promise ? found.then(current) : current(found);
    },
    close: cache.close,
  };
}
