import type { Kysely, Transaction } from "kysely";
import type { Database } from "./database.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

export interface ClientIssuers {
  /**
   * The issuer that this client of the routes file belongs to: `issuer`, if none is known yet.
   * @param named an operator says so: whatever was known before
   */
  keep(
    client: { readonly routeId: string; readonly upstream: string; readonly clientId: string },
    issuer: string,
    named: boolean,
  ): Promise<string>;
}

/** A route whose people have been connected at an authorization server. */
export interface RouteIssuer {
  readonly routeId: string;
  readonly upstream: string;
  /** From before anybody asked whether the server is another route's. */
  readonly accepted: boolean;
}

export interface RouteIssuers {
  /** Who uses this issuer, those first who were first. */
  of(issuer: string): Promise<RouteIssuer[]>;
  /** Remembers that the route uses it; false: that was known. */
  add(place: Pick<RouteIssuer, "routeId" | "upstream">, issuer: string): Promise<boolean>;
  /** For what did not come to be. */
  remove(place: Pick<RouteIssuer, "routeId" | "upstream">, issuer: string): Promise<void>;
}

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
