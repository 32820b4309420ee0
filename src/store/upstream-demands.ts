import { sql } from "kysely";
import { connectionKeyName } from "./connection-key.ts";
import type { Database } from "./database.ts";
import { notify } from "./notify.ts";
import type { ConnectionKey, UpstreamTokens } from "./store.ts";

const table = "upstream_demand";

/** What upstreams asked for beyond the token they were shown; rows outlive the token's (F3.6, F4.6). */
export function upstreamDemands(
  database: Database,
): Pick<UpstreamTokens, "demand" | "findDemand" | "clearDemand"> {
  // What replicas hold of a connection in memory includes what is demanded of it.
  const changed = (key: ConnectionKey) => ({ table: "upstream_token", key: connectionKeyName(key) }) as const;
  return {
    async demand(key, demand) {
      await database.write("upstream_demand.put", async (tx) => {
        await tx
          .insertInto(table)
          .values({
            user_id: key.userId,
            route_id: key.routeId,
            upstream: key.upstream,
            scopes: JSON.stringify([...new Set(demand.scopes)]),
            resource_metadata: demand.resourceMetadata ?? null,
            demanded_at: demand.demandedAt,
          })
          .onConflict((conflict) =>
            conflict.columns(["user_id", "route_id", "upstream"]).doUpdateSet({
              scopes: sql`(
                select coalesce(jsonb_agg(scope), '[]')
                from (
                  select distinct scope
                  from jsonb_array_elements(upstream_demand.scopes || excluded.scopes) as scope
                  limit 100
                ) as scopes
              )`,
              resource_metadata: sql`coalesce(excluded.resource_metadata, upstream_demand.resource_metadata)`,
              demanded_at: sql`excluded.demanded_at`,
            }),
          )
          .execute();
        await notify(tx, changed(key));
      });
    },
    async findDemand(key) {
      const row = await database.read("upstream_demand.find", (db) =>
        db
          .selectFrom(table)
          .selectAll()
          .where("user_id", "=", key.userId)
          .where("route_id", "=", key.routeId)
          .where("upstream", "=", key.upstream)
          .executeTakeFirst(),
      );
      return (
        row && {
          scopes: row.scopes,
          ...(row.resource_metadata !== null && { resourceMetadata: row.resource_metadata }),
          demandedAt: row.demanded_at,
        }
      );
    },
    async clearDemand(key) {
      await database.write("upstream_demand.clear", async (tx) => {
        await tx
          .deleteFrom(table)
          .where("user_id", "=", key.userId)
          .where("route_id", "=", key.routeId)
          .where("upstream", "=", key.upstream)
          .execute();
        await notify(tx, changed(key));
      });
    },
  };
}
