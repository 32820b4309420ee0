import { sql } from "kysely";
import type { Database } from "./database.ts";

/** Removes the next batch of one kind of expired rows; `full`: there may be more. */
export type RemoveBatch = (size: number) => Promise<{ readonly removed: number; readonly full: boolean }>;

const dayMs = 86_400_000;
/** A person's record is kept for this time after the last sign-in or recheck. */
const keptDays = 90;
/** When a record that is in use is looked at again. */
const againDays = 7;

/**
 * Removes sign-in records that have not been checked for 90 days, unless sessions, grants or delegations depend on them. Those that are
 * kept are looked at again a week later, and not in every round: `kept_at` moves them on in the index, for all replicas.
 */
export function expiredPeople(database: Database, at: Date): RemoveBatch {
  const limit = new Date(at.getTime() - keptDays * dayMs);
  const keptAt = new Date(limit.getTime() + againDays * dayMs);
  const lastNeeded = sql`greatest(checked_at, kept_at)`;
  let from: Date | undefined;
  return (size) =>
    database.write("sign_in_session.remove_expired", async (tx) => {
      const { rows: found } = await sql<{ user_id: string; at: Date }>`
        select user_id, ${lastNeeded} as at from sign_in_session
        where ${lastNeeded} < ${limit} ${from === undefined ? sql`` : sql`and ${lastNeeded} >= ${from}`}
        order by ${lastNeeded} limit ${size} for update skip locked`.execute(tx);
      if (found.length === 0) return { removed: 0, full: false };
      const users = sql.join(found.map((row) => row.user_id));
      // A statement of its own, which sees what was stored before the records were locked. Each of the questions asks for one row, so
      // that it is answered by an index whatever the planner expects.
      const { rows: removed } = await sql`
        delete from sign_in_session
        where user_id in (${users})
          and (
            select 1 from browser_session
            where browser_session.user_id = sign_in_session.user_id and browser_session.expires_at > ${at}
            limit 1) is null
          and (
            select 1 from authorization_server_record
            where model = 'Grant' and authorization_server_record.user_id = sign_in_session.user_id
              and (authorization_server_record.expires_at is null or authorization_server_record.expires_at > ${at})
            limit 1) is null
          and (
            select 1 from delegation
            where owner_id = sign_in_session.user_id and delegated_at is not null and delegation.expires_at > ${at}
            limit 1) is null
        returning user_id`.execute(tx);
      await sql`update sign_in_session set kept_at = ${keptAt} where user_id in (${users})`.execute(tx);
      from = found.at(-1)?.at;
      return { removed: removed.length, full: found.length === size };
    });
}
