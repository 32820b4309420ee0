import { sql, type Transaction } from "kysely";
import { changeChannel } from "./change-channel.ts";
import type { Change } from "./store.ts";
import type { Tables } from "./tables.ts";

/** Postgres refuses payloads of 8000 bytes and more. */
const maxPayloadBytes = 7_900;

/** Tells every replica of `change` when, and only if, `tx` commits. */
export async function notify(tx: Transaction<Tables>, change: Change): Promise<void> {
  const payload = JSON.stringify(change);
  const fits = Buffer.byteLength(payload) <= maxPayloadBytes;
  const sent = fits ? payload : JSON.stringify({ table: "everything" } satisfies Change);
  await sql`select pg_notify(${changeChannel}, ${sent})`.execute(tx);
}
