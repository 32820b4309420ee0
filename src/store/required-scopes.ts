import type { Kysely, Selectable } from "kysely";
import type { ConnectionKey } from "../model/connection.ts";
import type { Database } from "./database.ts";
import { connectionChange, notify } from "./notifications/notifications.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

/** Scopes that the upstream requires and the connection lacks; outlives the token row. */
export interface RequiredScopes {
  readonly scopes: readonly string[];
  /** `resource_metadata` of the upstream's challenge. */
  readonly resourceMetadata?: string;
  readonly requiredAt: Date;
}

/** Scopes that upstreams require beyond those of the current token; rows outlive the token's row. */
export interface RequiredScopesTable {
  /** Stores required scopes, merged with those already stored. */
  requireScopes(key: ConnectionKey, required: RequiredScopes): Promise<void>;
  findRequiredScopes(key: ConnectionKey): Promise<RequiredScopes | undefined>;
  clearRequiredScopes(key: ConnectionKey): Promise<void>;
}

const table = "upstream_demand";

/** Limits how many scopes an upstream can accumulate. */
const maxScopes = 100;

/** The table `upstream_demand`. */
export function requiredScopesTable(database: Database, macs: RowMacs): RequiredScopesTable {
  // Replicas cache a connection together with its required scopes.
  return {
    async requireScopes(key, required) {
      await macs.ready();
      await database.write("upstream_demand.put", async (tx) => {
        // Of two concurrent writers, the second waits for the first here and merges with its result.
        await tx
          .insertInto(table)
          .values({
            ...columnsOf(key),
            scopes: "[]",
            resource_metadata: null,
            demanded_at: required.requiredAt,
            mac: null,
          })
          .onConflict((conflict) => conflict.doNothing())
          .execute();
        const row = await selectRow(tx, key).forUpdate().executeTakeFirstOrThrow();
        const known = row.mac !== null && macs.accepts(table, row) ? row : undefined;
        const values = {
          scopes: [...new Set([...(known?.scopes ?? []), ...required.scopes])].slice(0, maxScopes).sort(),
          resource_metadata: required.resourceMetadata ?? known?.resource_metadata ?? null,
          demanded_at: required.requiredAt,
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
        await notify(tx, connectionChange(key));
      });
    },
    async findRequiredScopes(key) {
      const found = await database.read("upstream_demand.find", (db) =>
        selectRow(db, key).executeTakeFirst(),
      );
      return requiredScopesOf(macs, found);
    },
    async clearRequiredScopes(key) {
      await database.write("upstream_demand.clear", async (tx) => {
        await tx
          .deleteFrom(table)
          .where("user_id", "=", key.userId)
          .where("route_id", "=", key.routeId)
          .where("upstream", "=", key.upstream)
          .execute();
        await notify(tx, connectionChange(key));
      });
    },
  };
}

/** The required scopes in a row; undefined: none, or its MAC is invalid. */
export async function requiredScopesOf(
  macs: RowMacs,
  found: Selectable<Tables[typeof table]> | undefined,
): Promise<RequiredScopes | undefined> {
  const row = await macs.find(table, found);
  if (!row) return undefined;
  return {
    scopes: row.scopes,
    ...(row.resource_metadata !== null && { resourceMetadata: row.resource_metadata }),
    requiredAt: row.demanded_at,
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
