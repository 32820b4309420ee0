import type { Transaction } from "kysely";
import { type AuditEvent, writeAuditEvent, writeAuditEvents } from "./audit-events.ts";
import { type Database, retriedOnDeadlock } from "./database.ts";
import { deleteGrants } from "./delete-grants.ts";
import { type GrantOwner, grantsOfRecords, ownerOf, unexpired } from "./grants.ts";
import { boundColumns } from "./mac-columns.ts";
import { notify } from "./notifications/notifications.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

const table = "authorization_server_record";
/** Grants that one transaction ends, so that it finishes well within the timeout of an operation. */
const grantsAtOnce = 200;

/** What the end of a person's access is recorded with. */
export type EndOfPerson = Pick<AuditEvent, "action" | "actor" | "reason" | "requestId" | "issuer">;

/** What ended: by this call, not by another replica at the same time. */
export interface EndedPerson {
  /** Whether there was a sign-in record. */
  readonly wasSignedIn: boolean;
  readonly grants: readonly GrantOwner[];
}

/**
 * Ends a person's sign-in record, browser sessions and grants with all their tokens, and notifies every replica. The connections to
 * upstreams stay. One transaction, unless there are more than 200 grants: the excess ends before it, in transactions of its own. If one
 * of them fails, the sign-in record still exists, and whoever repeats the end continues it.
 *
 * Only records with a valid MAC say whose a grant is: a forged row neither ends another person's grant nor hides one of this person.
 * The tokens of a grant count, too.
 * @param audit the event about the person; written once if several replicas do this. Each grant has one of its own, with its reason
 */
export async function endAccessOfPerson(
  database: Database,
  macs: Pick<RowMacs, "ready" | "accepts">,
  userId: string,
  audit: EndOfPerson,
): Promise<EndedPerson> {
  await macs.ready();
  const grants: GrantOwner[] = [];
  for (let after = ""; ; ) {
    const passed = after;
    const step = await retriedOnDeadlock(() =>
      database.write("person.end_access", async (tx) => {
        const page = await grantPage(tx, userId, passed);
        if (page.length <= grantsAtOnce) return endPerson(tx, macs, userId, audit);
        const rows = page.slice(0, grantsAtOnce);
        const own = rows.flatMap((row) => (macs.accepts(table, row) ? [ownerOf(row)] : []));
        return { grants: await endGrants(tx, own, audit), next: rows.at(-1)?.id_name ?? "" };
      }),
    );
    grants.push(...step.grants);
    if ("wasSignedIn" in step) return { ...step, grants };
    after = step.next;
  }
}

async function endPerson(
  tx: Transaction<Tables>,
  macs: Pick<RowMacs, "accepts">,
  userId: string,
  audit: EndOfPerson,
): Promise<EndedPerson> {
  // First: a grant under way either exists when the grants are read, or finds no sign-in, on which it depends.
  const people = await tx
    .deleteFrom("sign_in_session")
    .where("user_id", "=", userId)
    .returning("user_id")
    .execute();
  await tx.deleteFrom("browser_session").where("user_id", "=", userId).execute();
  const grants = await endGrants(tx, await grantsOfRecords(tx, macs, { userId }), audit);
  if (people.length > 0) await writeAuditEvent(tx, { ...audit, userId });
  await notify(tx, { table: "browser_session", userId });
  return { wasSignedIn: people.length > 0, grants };
}

function grantPage(tx: Transaction<Tables>, userId: string, after: string) {
  return tx
    .selectFrom(table)
    .select([...boundColumns[table].columns, "mac"])
    .where("model", "=", "Grant")
    .where("user_id", "=", userId)
    .where("id_name", ">", after)
    .where(unexpired)
    .orderBy("id_name")
    .limit(grantsAtOnce + 1)
    .execute();
}

/** Writes one event for each grant that this transaction has ended: another replica may have been faster. */
async function endGrants(
  tx: Transaction<Tables>,
  grants: readonly GrantOwner[],
  { actor, reason, requestId }: EndOfPerson,
): Promise<GrantOwner[]> {
  const deleted = await deleteGrants(
    tx,
    grants.map(({ grantId }) => grantId),
  );
  const ended = grants.filter(({ grantId }) => deleted.has(grantId));
  await writeAuditEvents(
    tx,
    ended.map((grant) => ({ action: "grant.revoked", ...grant, actor, reason, requestId })),
  );
  return ended;
}
