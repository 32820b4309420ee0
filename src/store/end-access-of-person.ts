import type { Transaction } from "kysely";
import { type AuditEvent, writeAuditEvent, writeAuditEvents } from "./audit-events.ts";
import { type Database, retriedOnDeadlock } from "./database.ts";
import { deleteGrants } from "./delete-grants.ts";
import { notify } from "./notifications/notifications.ts";
import type { Tables } from "./tables.ts";

/** Grants that one transaction ends, so that it finishes well within the timeout of an operation. */
const grantsAtOnce = 200;

/**
 * Ends a person's sign-in record, browser sessions and grants with all their tokens, and notifies every replica. The connections to
 * upstreams stay. One transaction, unless there are more than 200 grants: the excess ends before it, in transactions of its own. If one
 * of them fails, the sign-in record still exists, and whoever repeats the end continues it.
 * @param audit the event about the person; written once if several replicas do this. Each grant has one of its own, with its reason
 * @returns whether there was a sign-in record
 */
export async function endAccessOfPerson(
  database: Database,
  userId: string,
  audit: Pick<AuditEvent, "action" | "reason" | "requestId" | "issuer">,
): Promise<boolean> {
  for (;;) {
    const ended = await retriedOnDeadlock(() =>
      database.write("person.end_access", async (tx) => {
        const first = await grantsOf(tx, userId, grantsAtOnce + 1);
        if (first.length <= grantsAtOnce) return endPerson(tx, userId, audit);
        await endGrants(tx, userId, first.slice(0, grantsAtOnce), audit);
        return "more";
      }),
    );
    if (ended !== "more") return ended;
  }
}

async function endPerson(
  tx: Transaction<Tables>,
  userId: string,
  audit: Parameters<typeof endAccessOfPerson>[2],
): Promise<boolean> {
  // First: a grant under way either exists when the grants are read, or finds no sign-in, on which it depends.
  const people = await tx
    .deleteFrom("sign_in_session")
    .where("user_id", "=", userId)
    .returning("user_id")
    .execute();
  await tx.deleteFrom("browser_session").where("user_id", "=", userId).execute();
  await endGrants(tx, userId, await grantsOf(tx, userId), audit);
  if (people.length > 0) await writeAuditEvent(tx, { ...audit, userId });
  await notify(tx, { table: "browser_session", userId });
  return people.length > 0;
}

interface Grant {
  readonly idName: string;
  readonly grantId: string;
  readonly clientId: string | undefined;
}

async function grantsOf(tx: Transaction<Tables>, userId: string, limit?: number): Promise<Grant[]> {
  const all = tx
    .selectFrom("authorization_server_record")
    .select(["id_name", "grant_id", "client_id"])
    .where("model", "=", "Grant")
    .where("user_id", "=", userId)
    .orderBy("id_name");
  const rows = await (limit === undefined ? all : all.limit(limit)).execute();
  return rows.map((row) => ({
    idName: row.id_name,
    grantId: row.grant_id ?? "",
    clientId: row.client_id ?? undefined,
  }));
}

/** Writes one event for each grant that this transaction has ended: another replica may have been faster. */
async function endGrants(
  tx: Transaction<Tables>,
  userId: string,
  grants: readonly Grant[],
  { reason, requestId }: Pick<AuditEvent, "reason" | "requestId">,
): Promise<void> {
  const ended = await deleteGrants(
    tx,
    grants.flatMap(({ grantId }) => (grantId === "" ? [] : [grantId])),
  );
  // Rows that name another grant, or none: the gateway has not written them, and they must not stop this from making progress.
  const names = grants.map(({ idName }) => idName);
  if (names.length > 0)
    await tx
      .deleteFrom("authorization_server_record")
      .where("model", "=", "Grant")
      .where("id_name", "in", names)
      .execute();
  const events = grants.filter(({ grantId }) => ended.has(grantId));
  await writeAuditEvents(
    tx,
    events.map(({ grantId, clientId }) => ({
      ...{ action: "grant.revoked", userId, clientId, grantId, reason, requestId },
    })),
  );
}
