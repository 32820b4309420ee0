import type { Kysely, Transaction } from "kysely";
import type { Database } from "./database.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

export interface ClientIssuers {
  /** The issuer that this client of the routes file belongs to, if one has been kept. */
  find(client: ClientOfRoute): Promise<string | undefined>;
  /**
   * The issuer that this client of the routes file belongs to: the first one seen, or `issuer` if none is known yet.
   * @param named the operator configured `issuer`: it replaces a known one
   */
  keep(client: ClientOfRoute, issuer: string, named: boolean): Promise<string>;
}

interface ClientOfRoute {
  readonly routeId: string;
  readonly upstream: string;
  readonly clientId: string;
}

/** A route with connections at an authorization server. */
export interface RouteIssuer {
  readonly routeId: string;
  readonly upstream: string;
  /** Recorded before the gateway checked whether another route uses the server. */
  readonly accepted: boolean;
}

export interface RouteIssuers {
  /** The routes that use this issuer, oldest first. */
  of(issuer: string): Promise<RouteIssuer[]>;
  /** Records that the route uses the issuer; false: already recorded. */
  add(route: Pick<RouteIssuer, "routeId" | "upstream">, issuer: string): Promise<boolean>;
  /** Removes the record if no connection was established. */
  remove(route: Pick<RouteIssuer, "routeId" | "upstream">, issuer: string): Promise<void>;
}

const routeTable = "route_issuer";

/** Which routes have connections at which authorization servers. */
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
      const key = { route_id: routeId, upstream, issuer };
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
        // A forged row counts as absent, and so does its position in the order.
        if (there)
          await tx
            .deleteFrom(routeTable)
            .where("id", "=", there.id)
            .where("mac", "is not distinct from", there.mac)
            .execute();
        return insert(tx, macs, key);
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

interface RouteIssuerKey {
  readonly route_id: string;
  readonly upstream: string;
  readonly issuer: string;
}

/** False: the row exists. */
async function insert(tx: Transaction<Tables>, macs: RowMacs, key: RouteIssuerKey): Promise<boolean> {
  const made = await tx
    .insertInto(routeTable)
    .values({ ...key, mac: null })
    .onConflict((conflict) => conflict.columns(["route_id", "upstream", "issuer"]).doNothing())
    .returning(["id", "accepted"])
    .executeTakeFirst();
  if (!made) return false;
  // The MAC covers the id, which the database assigns.
  await tx
    .updateTable(routeTable)
    .set({ mac: macs.sign(routeTable, { ...key, ...made }) })
    .where("id", "=", made.id)
    .execute();
  return true;
}

const clientTable = "client_issuer";

/** Issuers of clients in the routes file: the first one seen, until the operator configures another. */
export function clientIssuers(database: Database, macs: RowMacs): ClientIssuers {
  async function find({ routeId, upstream, clientId }: ClientOfRoute): Promise<string | undefined> {
    const of = { route_id: routeId, upstream, client_id: clientId };
    const found = await database.read("client_issuer.find", (db) => select(db, of).executeTakeFirst());
    return found && !(await macs.isForged(clientTable, found)) ? found.issuer : undefined;
  }

  return {
    find,
    async keep(client, issuer, named) {
      const { routeId, upstream, clientId } = client;
      const of = { route_id: routeId, upstream, client_id: clientId };
      const known = await find(client);
      if (known !== undefined && (known === issuer || !named)) return known;
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
        // Concurrent callers all get the first issuer; a forged row counts as absent.
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
