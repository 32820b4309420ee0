import type { Kysely } from "kysely";
import type { Database } from "./database.ts";
import type { RowMacs } from "./row-macs.ts";
import type { ClientIssuers } from "./store.ts";
import type { Tables } from "./tables.ts";

const clientTable = "client_issuer";

/** Issuers of clients that stand in the routes file: the first that was seen, until an operator names another. */
export function clientIssuers(database: Database, macs: RowMacs): ClientIssuers {
  return {
    async keep({ routeId, upstream, clientId }, issuer, named) {
      const of = { route_id: routeId, upstream, client_id: clientId };
      const found = await database.read("client_issuer.find", (db) => select(db, of).executeTakeFirst());
      const known = found && !(await macs.isForged(clientTable, found)) ? found : undefined;
      if (known && (known.issuer === issuer || !named)) return known.issuer;
      await macs.ready();
      return database.write("client_issuer.keep", async (tx) => {
        const values = { ...of, issuer };
        const mac = macs.sign(clientTable, values);
        const made = await tx
          .insertInto(clientTable)
          .values({ ...values, mac })
          .onConflict((conflict) => conflict.doNothing())
          .returning("issuer")
          .executeTakeFirst();
        if (made) return made.issuer;
        // Two who ask at once both hear the one that was first; a row that was not written here is as good as absent.
        const first = await select(tx, of).forUpdate().executeTakeFirst();
        if (!named && first && macs.accepts(clientTable, first)) return first.issuer;
        await tx
          .updateTable(clientTable)
          .set({ issuer, mac })
          .where("route_id", "=", routeId)
          .where("upstream", "=", upstream)
          .where("client_id", "=", clientId)
          .execute();
        return issuer;
      });
    },
  };
}

function select(db: Kysely<Tables>, of: { route_id: string; upstream: string; client_id: string }) {
  return db
    .selectFrom(clientTable)
    .selectAll()
    .where("route_id", "=", of.route_id)
    .where("upstream", "=", of.upstream)
    .where("client_id", "=", of.client_id);
}
