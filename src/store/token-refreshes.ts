import { type ExpressionBuilder, type Selectable, sql } from "kysely";
import type { ConnectionKey } from "../model/connection.ts";
import { auditColumns } from "./audit-events.ts";
import type { Database } from "./database.ts";
import { disconnectNames } from "./disconnects.ts";
import { connectionChange, notifying } from "./notifications/notifications.ts";
import type { Tables, UpstreamTokenTable } from "./tables.ts";
import type { NewUpstreamToken, RefreshRejections, StoredUpstreamTokens } from "./upstream-tokens.ts";

const table = "upstream_token";
const now = sql<Date>`now()`;

/**
 * The writes of a refresh. Each is one statement instead of a transaction of five: when thousands of tokens expire together, their number
 * decides how long the last user waits.
 * @param deps.columnsOf the columns to write, encrypted
 */
export function tokenRefreshes(
  database: Database,
  deps: {
    readonly columnsOf: (token: NewUpstreamToken) => Promise<object>;
    readonly rejectionsOf: (
      row: Selectable<UpstreamTokenTable>,
    ) => Partial<Record<"rejections", RefreshRejections>>;
  },
): Pick<StoredUpstreamTokens, "takeLease" | "releaseLease" | "recordRejection" | "replace"> {
  const { clock } = database;
  const released = { lease_owner: null, lease_until: null };

  return {
    async takeLease(key, version, owner, until, mayTakeOver = true) {
      const leaseMs = until.getTime() - Date.now();
      const { kind, names } = disconnectNames(key);
      const [row] = await database.writeAtOnce("upstream_token.take_lease", (db) =>
        db
          .updateTable(table)
          .set({ lease_owner: owner, lease_until: sql`now() + ${leaseMs} * interval '1 millisecond'` })
          .where(isVersion(key, version))
          .where((e) =>
            e.or([
              e("lease_until", "is", null),
              e("lease_owner", "=", owner),
              ...(mayTakeOver ? [e("lease_until", "<=", now)] : []),
            ]),
          )
          // As of this statement: a later disconnect deletes the row, which then has no lease.
          .returning((e) =>
            sql<Date[]>`array(${e
              .selectFrom("used_value")
              .select("expires_at")
              .where("kind", "=", kind)
              .where("name", "in", names)})`.as("disconnects"),
          )
          .execute(),
      );
      return row?.disconnects.map((date) => date.getTime());
    },

    async releaseLease(key, version, owner) {
      await database.writeAtOnce("upstream_token.release_lease", (db) =>
        db
          .with("released", (one) =>
            one
              .updateTable(table)
              .set(released)
              .where(isVersion(key, version))
              .where("lease_owner", "=", owner)
              .returning("version"),
          )
          .selectFrom("released")
          // Waiters for this refresh must not wait for the lease to expire. Caches keep the token: it is the same version.
          .select(notifying(connectionChange(key), "released.version"))
          .execute(),
      );
    },

    async recordRejection(key, version, owner, at) {
      const since = clock.toDatabase(at);
      const row = await database.writeAtOnce("upstream_token.record_rejection", (db) =>
        db
          .with("recorded", (one) =>
            one
              .updateTable(table)
              .set({
                ...released,
                refused_count: sql<number>`case when refused_version = version then refused_count + 1 else 1 end`,
                refused_since: sql<Date>`case when refused_version = version then refused_since else ${since} end`,
                refused_version: sql<number>`version`,
              })
              .where(isVersion(key, version))
              .where("lease_owner", "=", owner)
              .returningAll(),
          )
          .selectFrom("recorded")
          .selectAll()
          .select(notifying(connectionChange(key)))
          .executeTakeFirst(),
      );
      return row && deps.rejectionsOf(row).rejections;
    },

    async replace(token, version, owner, audit) {
      const values = await deps.columnsOf(token);
      const row = await database.writeAtOnce("upstream_token.replace", (db) =>
        db
          .with("replaced", (one) =>
            one
              .updateTable(table)
              .set(values)
              .where(isVersion(token, version))
              .where("lease_owner", "=", owner)
              .returning(["version", "updated_at"]),
          )
          .with("audited", (one) =>
            one
              .insertInto("audit_event")
              .columns(auditColumns.names)
              .expression((e) => e.selectFrom("replaced").select(auditColumns.of(audit))),
          )
          .selectFrom("replaced")
          .select(["version", "updated_at", notifying(connectionChange(token), "replaced.version")])
          .executeTakeFirst(),
      );
      if (row) database.onAudited(audit);
      return row && { version: row.version, updatedAt: clock.fromDatabase(row.updated_at) };
    },
  };
}

function isVersion({ userId, routeId, upstream }: ConnectionKey, version: number) {
  return (e: ExpressionBuilder<Tables, typeof table>) =>
    e.and({ user_id: userId, route_id: routeId, upstream, version });
}
