import { type Kysely, sql, type Transaction } from "kysely";
import type { ConnectionKey } from "../model/connection.ts";
import { hashedHandle } from "./hashed-handle.ts";
import type { Tables } from "./tables.ts";

/** What a person disconnects: one connection, or all their connections of the route, including pending authorizations. */
export type DisconnectScope = "connection" | "route";

const table = "used_value";
const kind = "disconnect";
/** Longer than any authorization flow or refresh. */
const kept = sql`interval '30 days'`;
function nameOf({ userId, routeId, upstream }: ConnectionKey, scope: DisconnectScope): string {
  return hashedHandle(JSON.stringify(scope === "route" ? [userId, routeId] : [userId, routeId, upstream]));
}

/** Records a disconnect in its transaction, even if there was no connection yet. */
export async function recordDisconnect(
  tx: Transaction<Tables>,
  key: ConnectionKey,
  scope: DisconnectScope,
): Promise<void> {
  await lockDisconnects(tx, key);
  const expires_at = sql<Date>`clock_timestamp() + ${kept}`;
  await tx
    .insertInto(table)
    .values({ kind, name: nameOf(key, scope), expires_at })
    .onConflict((conflict) => conflict.columns(["kind", "name"]).doUpdateSet({ expires_at }))
    .execute();
}

/** Where `used_value` holds the disconnects of a connection and of its route. */
export function disconnectNames(key: ConnectionKey): {
  readonly kind: string;
  readonly names: readonly string[];
} {
  return { kind, names: [nameOf(key, "connection"), nameOf(key, "route")] };
}

/** The latest disconnects of the connection and of its route in the last 30 days, each as a unique number. */
export async function disconnectsOf(db: Kysely<Tables>, key: ConnectionKey): Promise<readonly number[]> {
  const rows = await db
    .selectFrom(table)
    .select("expires_at")
    .where("kind", "=", kind)
    .where("name", "in", disconnectNames(key).names)
    .execute();
  return rows.map(({ expires_at }) => expires_at.getTime());
}

/** Blocks disconnects until the transaction ends, so that its writes come entirely before or after a disconnect. */
export async function lockDisconnects(tx: Transaction<Tables>, key: ConnectionKey): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtext(${`${kind} ${nameOf(key, "route")}`}))`.execute(tx);
}
