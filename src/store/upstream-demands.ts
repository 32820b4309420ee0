import type { Kysely } from "kysely";
import { type ConnectionKey, connectionKeyName } from "../model/connection.ts";
import type { Database } from "./database.ts";
import { notify } from "./notifications/notifications.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

/** What the upstream asked for and the connection lacks; outlives the token row. */
export interface RequiredScopes {
  readonly scopes: readonly string[];
  /** `resource_metadata` of the upstream's challenge. */
  readonly resourceMetadata?: string;
  readonly requiredAt: Date;
}

/** What upstreams asked for beyond the token they were shown; rows outlive the token's. */
export interface RequiredScopesTable {
  /** Remembers it; scopes are merged with an earlier demand. */
  requireScopes(key: ConnectionKey, demand: RequiredScopes): Promise<void>;
  findRequiredScopes(key: ConnectionKey): Promise<RequiredScopes | undefined>;
  clearRequiredScopes(key: ConnectionKey): Promise<void>;
}

const table = "upstream_demand";

/** An upstream can demand without end. */
const mostScopes = 100;

/** The table `upstream_demand`. */
export function requiredScopesTable(database: Database, macs: RowMacs): RequiredScopesTable {
  // What replicas hold of a connection in memory includes what is demanded of it.
  const changed = (key: ConnectionKey) => ({ table: "upstream_token", key: connectionKeyName(key) }) as const;
  return {
    async requireScopes(key, demand) {
      await macs.ready();
      await database.write("upstream_demand.put", async (tx) => {
        // Whoever comes second waits for the first here, and adds to what he left.
        await tx
          .insertInto(table)
          .values({
            ...columnsOf(key),
            scopes: "[]",
            resource_metadata: null,
            demanded_at: demand.requiredAt,
            mac: null,
          })
          .onConflict((conflict) => conflict.doNothing())
          .execute();
        const row = await selectRow(tx, key).forUpdate().executeTakeFirstOrThrow();
        const known = row.mac !== null && macs.accepts(table, row) ? row : undefined;
        const values = {
          scopes: [...new Set([...(known?.scopes ?? []), ...demand.scopes])].slice(0, mostScopes).sort(),
          resource_metadata: demand.resourceMetadata ?? known?.resource_metadata ?? null,
          demanded_at: demand.requiredAt,
        };
        await tx
          .updateTable(table)
          .set({
            ...values,
            scopes: JSON.stringify(values.scopes),
            mac: macs.sign(table, { ...columnsOf(key), ...values }),
          })
          .where("user_id", "=", key.userId)
          .where("route_id", "=", key.routeId)
          .where("upstream", "=", key.upstream)
          .execute();
        await notify(tx, changed(key));
      });
    },
    async findRequiredScopes(key) {
      const found = await database.read("upstream_demand.find", (db) =>
        selectRow(db, key).executeTakeFirst(),
      );
      const row = await macs.find(table, found);
      return (
        row && {
          scopes: row.scopes,
          ...(row.resource_metadata !== null && { resourceMetadata: row.resource_metadata }),
          requiredAt: row.demanded_at,
        }
      );
    },
    async clearRequiredScopes(key) {
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

const columnsOf = (key: ConnectionKey) => ({
  user_id: key.userId,
  route_id: key.routeId,
  upstream: key.upstream,
});

function selectRow(db: Kysely<Tables>, key: ConnectionKey) {
  return db
    .selectFrom(table)
    .selectAll()
    .where("user_id", "=", key.userId)
    .where("route_id", "=", key.routeId)
    .where("upstream", "=", key.upstream);
}
