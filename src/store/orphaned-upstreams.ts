import { type RawBuilder, sql, type Transaction } from "kysely";
import type { ConnectionKey } from "../model/connection.ts";
import type { Database } from "./database.ts";
import type { Indexes } from "./indexes.ts";
import type { Tables } from "./tables.ts";

/** A route's upstream, or an endpoint below it, that connections belong to. */
export type RouteUpstream = Pick<ConnectionKey, "routeId" | "upstream">;

/**
 * Upstreams with connections that no route has. Lists are in byte order and paged; reading one takes time by the number of upstreams, not
 * of connections.
 */
export interface OrphanedUpstreams {
  /** Upstreams that have connections, each once. Empty while the index is being built. */
  connected(after: RouteUpstream | undefined, limit: number): Promise<RouteUpstream[]>;
  /** Orphaned upstreams; each replica removes those that its routes have. */
  list(after: RouteUpstream | undefined, limit: number): Promise<RouteUpstream[]>;
  /** Begins the grace period of those that are not there yet. */
  add(upstreams: readonly RouteUpstream[]): Promise<void>;
  remove(upstreams: readonly RouteUpstream[]): Promise<void>;
  /**
   * Connections of upstreams that have been orphaned for `graceSeconds`, some of each. What has no connection any more is forgotten, and
   * the time of an upstream that a replica of an earlier version has begins again.
   */
  connections(graceSeconds: number, limit: number): Promise<ConnectionKey[]>;
  /** Upstreams whose connections a replica of an earlier version has marked as orphaned. */
  marked(after: RouteUpstream | undefined, limit: number): Promise<RouteUpstream[]>;
  /** Clears some of these marks; returns how many. */
  unmark(upstream: RouteUpstream, limit: number): Promise<number>;
}

const table = "orphaned_upstream";
/** Upstreams that one statement looks at. */
const batch = 20;
const key = sql`(route_id collate "C", upstream collate "C")`;
const marks = sql<boolean>`orphaned_at is not null`;
const is = (routeId: unknown, upstream: unknown) =>
  sql<boolean>`route_id collate "C" = ${routeId} and upstream collate "C" = ${upstream}`;

interface Row {
  readonly route_id: string;
  readonly upstream: string;
}
const toUpstream = (row: Row): RouteUpstream => ({ routeId: row.route_id, upstream: row.upstream });

export function orphanedUpstreams(database: Database, indexes: Pick<Indexes, "built">): OrphanedUpstreams {
  async function isReady(): Promise<boolean> {
    return (
      (await indexes.built("upstream_token_upstream")) && (await indexes.built("upstream_token_orphaned"))
    );
  }

  /** Each upstream once: jumps in the index from one to the next. */
  async function distinct(
    condition: RawBuilder<boolean>,
    after: RouteUpstream | undefined,
    limit: number,
  ): Promise<RouteUpstream[]> {
    if (!(await isReady())) return [];
    return database.read("orphaned_upstream.connected", async (db) => {
      const { rows } = await sql<Row>`
        with recursive found as (
          (select route_id, upstream from upstream_token
            where ${key} > (${after?.routeId ?? ""}, ${after?.upstream ?? ""}) and ${condition}
            order by route_id collate "C", upstream collate "C" limit 1)
          union all
          select next.route_id, next.upstream from found cross join lateral (
            select route_id, upstream from upstream_token
            where ${key} > (found.route_id, found.upstream) and ${condition}
            order by route_id collate "C", upstream collate "C" limit 1) as next)
        select route_id, upstream from found limit ${limit}`.execute(db);
      return rows.map(toUpstream);
    });
  }

  /** Marks one connection of each, in the manner of earlier versions: their replicas clear the mark if they have the route. */
  async function markOne(tx: Transaction<Tables>, upstreams: readonly Row[]): Promise<void> {
    if (upstreams.length === 0) return;
    await sql`
      update upstream_token set orphaned_at = now()
      where ctid = any(array(
        select (select ctid from upstream_token where ${is(sql`orphan.route_id`, sql`orphan.upstream`)} limit 1)
        from unnest(${upstreams.map((one) => one.route_id)}::text[], ${upstreams.map((one) => one.upstream)}::text[])
          as orphan (route_id, upstream)))`.execute(tx);
  }

  /** Ends the grace period of the oldest, or begins it again if an earlier version's replica has the route. */
  async function endGracePeriods(tx: Transaction<Tables>, graceSeconds: number): Promise<void> {
    const { rows } = await sql<Row & { connected: boolean; marked: boolean }>`
      select route_id, upstream,
        exists (select from upstream_token where ${is(sql`orphan.route_id`, sql`orphan.upstream`)}) as connected,
        exists (select from upstream_token where ${is(sql`orphan.route_id`, sql`orphan.upstream`)} and ${marks}) as marked
      from ${sql.table(table)} as orphan
      where not ending and orphaned_at <= now() - ${graceSeconds} * interval '1 second'
      order by orphaned_at limit ${batch}`.execute(tx);
    for (const { route_id, upstream, connected, marked } of rows) {
      const row = tx.updateTable(table).where("route_id", "=", route_id).where("upstream", "=", upstream);
      if (marked) await row.set({ ending: true }).execute();
      else if (connected) await row.set({ orphaned_at: sql<Date>`now()` }).execute();
      else await remove(tx, [{ routeId: route_id, upstream }]);
    }
    await markOne(
      tx,
      rows.filter(({ connected, marked }) => connected && !marked),
    );
  }

  async function remove(db: Transaction<Tables>, upstreams: readonly RouteUpstream[]): Promise<void> {
    await sql`
      delete from ${sql.table(table)} using unnest(${upstreams.map(({ routeId }) => routeId)}::text[],
        ${upstreams.map(({ upstream }) => upstream)}::text[]) as known (route_id, upstream)
      where ${sql.table(table)}.route_id = known.route_id and ${sql.table(table)}.upstream = known.upstream`.execute(
      db,
    );
  }

  return {
    connected: (after, limit) => distinct(sql<boolean>`true`, after, limit),
    marked: (after, limit) => distinct(marks, after, limit),

    async list(after, limit) {
      const rows = await database.read("orphaned_upstream.list", (db) =>
        db
          .selectFrom(table)
          .select(["route_id", "upstream"])
          .where(sql<boolean>`(route_id, upstream) > (${after?.routeId ?? ""}, ${after?.upstream ?? ""})`)
          .orderBy("route_id")
          .orderBy("upstream")
          .limit(limit)
          .execute(),
      );
      return rows.map(toUpstream);
    },

    async add(upstreams) {
      if (upstreams.length === 0) return;
      await database.write("orphaned_upstream.add", async (tx) => {
        const added = await tx
          .insertInto(table)
          .values(upstreams.map(({ routeId, upstream }) => ({ route_id: routeId, upstream })))
          .onConflict((conflict) => conflict.doNothing())
          .returning(["route_id", "upstream"])
          .execute();
        await markOne(tx, added);
      });
    },

    async remove(upstreams) {
      if (upstreams.length > 0)
        await database.write("orphaned_upstream.remove", (tx) => remove(tx, upstreams));
    },

    async connections(graceSeconds, limit) {
      if (!(await isReady())) return [];
      return database.write("orphaned_upstream.connections", async (tx) => {
        await endGracePeriods(tx, graceSeconds);
        const ending = await tx
          .selectFrom(table)
          .select(["route_id", "upstream"])
          .where("ending", "=", true)
          .orderBy("orphaned_at")
          .limit(batch)
          .execute();
        const found: ConnectionKey[] = [];
        for (const { route_id, upstream } of ending) {
          // A part of each, so that one with many connections does not delay the others.
          const { rows } = await sql<{ user_id: string }>`
            select user_id from upstream_token where ${is(route_id, upstream)}
            limit ${Math.ceil(limit / ending.length)}`.execute(tx);
          for (const { user_id } of rows) found.push({ userId: user_id, routeId: route_id, upstream });
          if (rows.length === 0) await remove(tx, [{ routeId: route_id, upstream }]);
        }
        return found;
      });
    },

    async unmark({ routeId, upstream }, limit) {
      const { rows } = await database.writeAtOnce("orphaned_upstream.unmark", (db) =>
        sql`
          update upstream_token set orphaned_at = null
          where ctid = any(array(
            select ctid from upstream_token where ${is(routeId, upstream)} and ${marks}
            limit ${limit} for update skip locked))
          returning 1`.execute(db),
      );
      return rows.length;
    },
  };
}
