import type { Database } from "./database.ts";
import type { RouteIssuers } from "./store.ts";

const table = "route_issuer";

/** At which authorization servers the people of which routes have been connected. */
export function routeIssuers(database: Database): RouteIssuers {
  return {
    async of(issuer) {
      const rows = await database.read("route_issuer.of", (db) =>
        db.selectFrom(table).selectAll().where("issuer", "=", issuer).orderBy("id").execute(),
      );
      return rows.map((row) => ({
        routeId: row.route_id,
        upstream: row.upstream,
        accepted: row.accepted,
      }));
    },
    async add({ routeId, upstream }, issuer) {
      const rows = await database.write("route_issuer.add", (tx) =>
        tx
          .insertInto(table)
          .values({ route_id: routeId, upstream, issuer })
          .onConflict((conflict) => conflict.columns(["route_id", "upstream", "issuer"]).doNothing())
          .returning("id")
          .execute(),
      );
      return rows.length === 1;
    },
    async remove({ routeId, upstream }, issuer) {
      await database.write("route_issuer.remove", (tx) =>
        tx
          .deleteFrom(table)
          .where("route_id", "=", routeId)
          .where("upstream", "=", upstream)
          .where("issuer", "=", issuer)
          .execute(),
      );
    },
  };
}
