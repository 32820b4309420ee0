import { sql } from "kysely";
import type { Database } from "./database.ts";
import type { StoredUpstreamTokens } from "./upstream-tokens.ts";

const table = "upstream_token";
const now = sql<Date>`now()`;

/** Queries over many connections, for operators, the background refresh and the cleanup of orphans. Nothing is decrypted. */
export function upstreamTokenQueries(
  database: Database,
): Pick<StoredUpstreamTokens, "list" | "orphans" | "dueForRefresh"> {
  const { clock } = database;
  return {
    async list({ userId, routeId }) {
      const rows = await database.read("upstream_token.list_all", (db) => {
        let query = db
          .selectFrom(table)
          .select([
            "user_id",
            "route_id",
            "upstream",
            "expires_at",
            "refreshable",
            "connected_at",
            "updated_at",
          ]);
        if (userId !== undefined) query = query.where("user_id", "=", userId);
        if (routeId !== undefined) query = query.where("route_id", "=", routeId);
        return query.orderBy("user_id").orderBy("route_id").execute();
      });
      return rows.map((row) => ({
        userId: row.user_id,
        routeId: row.route_id,
        upstream: row.upstream,
        ...(row.expires_at && { expiresAt: clock.fromDatabase(row.expires_at) }),
        refreshable: row.refreshable,
        connectedAt: clock.fromDatabase(row.connected_at),
        updatedAt: clock.fromDatabase(row.updated_at),
      }));
    },

    async orphans(places, graceSeconds, limit) {
      const rows = await database.write("upstream_token.orphans", async (tx) => {
        const known = sql<boolean>`exists (
          select from jsonb_array_elements(${JSON.stringify(places)}::jsonb) as place
          where place->>'routeId' = route_id
            and (place->>'upstream' = upstream or starts_with(upstream, rtrim(place->>'upstream', '/') || '/')))`;
        await tx
          .updateTable(table)
          .set({ orphaned_at: null })
          .where("orphaned_at", "is not", null)
          .where(known)
          .execute();
        await tx
          .updateTable(table)
          .set({ orphaned_at: now })
          .where("orphaned_at", "is", null)
          .where((e) => e.not(known))
          .execute();
        return tx
          .selectFrom(table)
          .select(["user_id", "route_id", "upstream"])
          .where("orphaned_at", "<=", sql<Date>`now() - ${graceSeconds} * interval '1 second'`)
          .limit(limit)
          .execute();
      });
      return rows.map((row) => ({ userId: row.user_id, routeId: row.route_id, upstream: row.upstream }));
    },

    async dueForRefresh(before, limit, lastPart = 1) {
      const rows = await database.read("upstream_token.due_for_refresh", (db) =>
        db
          .selectFrom(table)
          .select(["user_id", "route_id", "upstream", "version"])
          .where("refreshable", "=", true)
          .where("expires_at", "<", clock.toDatabase(before))
          .where(sql<boolean>`expires_at - ${lastPart}::float8 * (expires_at - updated_at) <= now()`)
          .where((e) => e.or([e("lease_until", "is", null), e("lease_until", "<=", now)]))
          .where((e) => e.or([e("refresh_expires_at", "is", null), e("refresh_expires_at", ">", now)]))
          // Valid tokens first, by expiry; then expired ones, newest first, so that old ones do not starve the others.
          .orderBy(sql`expires_at < now()`)
          .orderBy(sql`abs(extract(epoch from expires_at - now()))`)
          .limit(limit)
          .execute(),
      );
      return rows.map((row) => ({
        userId: row.user_id,
        routeId: row.route_id,
        upstream: row.upstream,
        version: row.version,
      }));
    },
  };
}
