import { sql } from "kysely";
import type { Database } from "./database.ts";
import type { ClientIssuers } from "./store.ts";

const table = "client_issuer";

/** Issuers of clients that stand in the routes file: the first that was seen, until an operator names another. */
export function clientIssuers(database: Database): ClientIssuers {
  return {
    async keep({ routeId, upstream, clientId }, issuer, named) {
      const known = await database.read("client_issuer.find", (db) =>
        db
          .selectFrom(table)
          .select("issuer")
          .where("route_id", "=", routeId)
          .where("upstream", "=", upstream)
          .where("client_id", "=", clientId)
          .executeTakeFirst(),
      );
      if (known && (known.issuer === issuer || !named)) return known.issuer;
      const kept = await database.write("client_issuer.keep", (tx) =>
        tx
          .insertInto(table)
          .values({ route_id: routeId, upstream, client_id: clientId, issuer })
          .onConflict((conflict) =>
            conflict
              .columns(["route_id", "upstream", "client_id"])
              // Two who ask at once both hear the one that was first.
              .doUpdateSet({ issuer: named ? sql`excluded.issuer` : sql`client_issuer.issuer` }),
          )
          .returning("issuer")
          .executeTakeFirstOrThrow(),
      );
      return kept.issuer;
    },
  };
}
