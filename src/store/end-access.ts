import { sql } from "kysely";
import { type AuditEvent, writeAuditEvent } from "./audit-events.ts";
import { type Database, retriedOnDeadlock } from "./database.ts";
import { notify } from "./notifications/notifications.ts";
import type { RowMacs } from "./row-macs.ts";
import type { SigningKey, signingKeys } from "./signing-keys.ts";

/** Number of ended items by kind. */
export interface EndedAccess {
  /** Including service accounts. */
  readonly grants: number;
  readonly refreshTokens: number;
  /** Both active and requested. */
  readonly delegations: number;
  readonly browserSessions: number;
  /** People whose sign-in record was deleted. */
  readonly people: number;
  readonly pendingAuthorizations: number;
  /** MCP sessions with aggregated routes. */
  readonly aggregateSessions: number;
}

/** The tables to lock, in this order: pending writes finish first, new writes wait. */
const tables = [
  "aggregate_session",
  "authorization_server_record",
  "browser_session",
  "delegation",
  "granted_member",
  "pending_authorization",
  "sign_in_session",
] as const;
/** oidc-provider's records that grant no access: client registrations, and replay detection. */
const kept = ["Client", "ReplayDetection"];

/**
 * Ends all access, in one transaction that notifies every replica: grants with their records, service accounts, delegations, browser
 * sessions, sign-in records, pending authorizations, sessions of aggregated routes, and all signing keys of external tokens.
 * @param key signs external tokens from now on; older keys end
 * @param why for the audit events
 */
export async function endAccess(
  database: Database,
  deps: {
    readonly macs: Pick<RowMacs, "ready">;
    readonly keys: Pick<ReturnType<typeof signingKeys>, "rotateIn">;
  },
  key: SigningKey,
  why: Pick<AuditEvent, "reason" | "actor">,
): Promise<EndedAccess> {
  await deps.macs.ready();
  return retriedOnDeadlock(once);

  function once(): Promise<EndedAccess> {
    return database.write("end_access", async (tx) => {
      await sql`lock table ${sql.join(tables.map((name) => sql.table(name)))} in share row exclusive mode`.execute(
        tx,
      );
      // Counted in the database: there may be millions.
      const { rows: records } = await sql<{ model: string; count: number }>`
        with ended as (
          delete from authorization_server_record where model not in (${sql.join(kept)}) returning model)
        select model, count(*)::int as count from ended group by model`.execute(tx);
      const count = (model: string) => records.find((row) => row.model === model)?.count ?? 0;
      const all = async (table: (typeof tables)[number]) => {
        const { numAffectedRows } = await sql`delete from ${sql.table(table)}`.execute(tx);
        return Number(numAffectedRows ?? 0);
      };
      await all("granted_member");
      const ended: EndedAccess = {
        grants: count("Grant"),
        refreshTokens: count("RefreshToken"),
        delegations: await all("delegation"),
        browserSessions: await all("browser_session"),
        people: await all("sign_in_session"),
        pendingAuthorizations: await all("pending_authorization"),
        aggregateSessions: await all("aggregate_session"),
      };
      await writeAuditEvent(tx, { action: "access.ended", ...why, detail: { ...ended } });
      // Ends the old keys by every replica's clock.
      await deps.keys.rotateIn(tx, key, new Date(0), {
        action: "signing_key.rotated",
        ...why,
        detail: { purpose: key.purpose, kid: key.kid },
      });
      await notify(tx, { table: "everything" });
      return ended;
    });
  }
}
