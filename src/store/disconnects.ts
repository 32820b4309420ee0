import { type Kysely, sql, type Transaction } from "kysely";
import { secretName } from "./secret-name.ts";
import type { ConnectionKey } from "./store.ts";
import type { Tables } from "./tables.ts";

type Whose = Pick<ConnectionKey, "userId" | "routeId">;

const table = "used_value";
const kind = "disconnect";
/** Longer than anything takes that was begun before. */
const kept = sql`interval '30 days'`;
const nameOf = ({ userId, routeId }: Whose) => secretName(JSON.stringify([userId, routeId]));

/** Remembers that somebody has disconnected a route, in the transaction of it, also where there was no connection yet. */
export async function noteDisconnect(tx: Transaction<Tables>, whose: Whose): Promise<void> {
  await lockDisconnects(tx, whose);
  const expires_at = sql<Date>`clock_timestamp() + ${kept}`;
  await tx
    .insertInto(table)
    .values({ kind, name: nameOf(whose), expires_at })
    .onConflict((conflict) => conflict.columns(["kind", "name"]).doUpdateSet({ expires_at }))
    .execute();
}

/** The latest disconnect, as a number that is another one for each; undefined: there was none in the last 30 days. */
export async function lastDisconnect(db: Kysely<Tables>, whose: Whose): Promise<number | undefined> {
  const row = await db
    .selectFrom(table)
    .select("expires_at")
    .where("kind", "=", kind)
    .where("name", "=", nameOf(whose))
    .executeTakeFirst();
  return row?.expires_at.getTime();
}

/** Until the transaction ends, nobody disconnects: what it stores comes wholly before, or after. */
export async function lockDisconnects(tx: Transaction<Tables>, whose: Whose): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtext(${`${kind} ${nameOf(whose)}`}))`.execute(tx);
}
