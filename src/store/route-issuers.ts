import type { Transaction } from "kysely";
import type { Database } from "./database.ts";
import type { RowMacs } from "./row-macs.ts";
import type { RouteIssuers } from "./store.ts";
import type { Tables } from "./tables.ts";

const routeTable = "route_issuer";

/** At which authorization servers the people of which routes have been connected. */
export function routeIssuers(database: Database, macs: RowMacs): RouteIssuers {
  return {
    async of(issuer) {
      const rows = await database.read("route_issuer.of", (db) =>
        db.selectFrom(routeTable).selectAll().where("issuer", "=", issuer).orderBy("id").execute(),
      );
      return (await macs.filter(routeTable, rows)).map((row) => ({
        routeId: row.route_id,
        upstream: row.upstream,
        accepted: row.accepted,
      }));
    },
    async add({ routeId, upstream }, issuer) {
      const place = { route_id: routeId, upstream, issuer };
      await macs.ready();
      const there = await database.read("route_issuer.there", (db) =>
        db
          .selectFrom(routeTable)
          .selectAll()
          .where("route_id", "=", routeId)
          .where("upstream", "=", upstream)
          .where("issuer", "=", issuer)
          .executeTakeFirst(),
      );
      if (there && !(await macs.isForged(routeTable, there))) return false;
      return database.write("route_issuer.add", async (tx) => {
        // A row that was not written here is as good as absent, its place in the order included.
        if (there)
          await tx
            .deleteFrom(routeTable)
            .where("id", "=", there.id)
            .where("mac", "is not distinct from", there.mac)
            .execute();
        return insert(tx, macs, place);
      });
    },
    async remove({ routeId, upstream }, issuer) {
      await database.write("route_issuer.remove", (tx) =>
        tx
          .deleteFrom(routeTable)
          .where("route_id", "=", routeId)
          .where("upstream", "=", upstream)
          .where("issuer", "=", issuer)
          .execute(),
      );
    },
  };
}

interface Place {
  readonly route_id: string;
  readonly upstream: string;
  readonly issuer: string;
}

/** False: there is one. */
async function insert(tx: Transaction<Tables>, macs: RowMacs, place: Place): Promise<boolean> {
  const made = await tx
    .insertInto(routeTable)
    .values({ ...place, mac: null })
    .onConflict((conflict) => conflict.columns(["route_id", "upstream", "issuer"]).doNothing())
    .returning(["id", "accepted"])
    .executeTakeFirst();
  if (!made) return false;
  // The database gives the id.
  await tx
    .updateTable(routeTable)
    .set({ mac: macs.sign(routeTable, { ...place, ...made }) })
    .where("id", "=", made.id)
    .execute();
  return true;
}
