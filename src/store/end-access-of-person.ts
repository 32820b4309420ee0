import { type AuditEvent, writeAuditEvent } from "./audit-events.ts";
import type { Database } from "./database.ts";
import { retriedOnDeadlock } from "./deadlocks.ts";
import { notify } from "./notifications/notifications.ts";

const records = "authorization_server_record";

/**
 * Ends a person's sign-in record, browser sessions and grants with all their tokens, in one transaction that notifies every replica.
 * The connections to upstreams stay.
 * @param audit the event about the person; written once if several replicas do this. Each grant has one of its own, with its reason
 * @returns whether there was a sign-in record
 */
export function endAccessOfPerson(
  database: Database,
  userId: string,
  audit: Pick<AuditEvent, "action" | "reason" | "requestId" | "issuer">,
): Promise<boolean> {
  const { reason, requestId } = audit;
  return retriedOnDeadlock(() =>
    database.write("person.end_access", async (tx) => {
      // First: a grant under way either exists when the grants are deleted, or finds no sign-in, on which it depends.
      const people = await tx
        .deleteFrom("sign_in_session")
        .where("user_id", "=", userId)
        .returning("user_id")
        .execute();
      await tx.deleteFrom("browser_session").where("user_id", "=", userId).execute();
      const grants = await tx
        .selectFrom(records)
        .select(["grant_id", "client_id"])
        .where("model", "=", "Grant")
        .where("user_id", "=", userId)
        .execute();
      for (const { grant_id, client_id: clientId } of grants) {
        const grantId = grant_id ?? "";
        for (const table of [records, "aggregate_session", "granted_member"] as const)
          await tx.deleteFrom(table).where("grant_id", "=", grantId).execute();
        await writeAuditEvent(tx, {
          ...{ action: "grant.revoked", userId, clientId: clientId ?? undefined, grantId },
          ...{ reason, requestId },
        });
        await notify(tx, { table: "grant", grantId });
      }
      if (people.length > 0) await writeAuditEvent(tx, { ...audit, userId });
      await notify(tx, { table: "browser_session", userId });
      return people.length > 0;
    }),
  );
}
