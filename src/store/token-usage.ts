import { sql } from "kysely";
import type { AuditEvent } from "./audit-events.ts";
import type { Database } from "./database.ts";
import type { StoredUpstreamTokens } from "./upstream-tokens.ts";

/** Records usage in batches, one statement each: after a refresh of many tokens, each has a first use. */
export function tokenUsage(database: Database): Pick<StoredUpstreamTokens, "recordUses"> {
  return {
    async recordUses(uses) {
      const events = uses.flatMap(({ audit }) => (audit ? [audit] : []));
      const used = (name: "userId" | "routeId" | "upstream") => sql`${uses.map((use) => use[name])}::text[]`;
      const of = (name: keyof AuditEvent) => sql`${events.map((event) => event[name] ?? null)}::text[]`;
      await database.writeAtOnce("upstream_token.record_use", (db) =>
        // A row that is locked is being refreshed: its time of use is recorded a few minutes later. Waiting for it could deadlock.
        sql`with used as (
            select t.user_id, t.route_id, t.upstream from upstream_token t
            join unnest(${used("userId")}, ${used("routeId")}, ${used("upstream")})
              as u (user_id, route_id, upstream) using (user_id, route_id, upstream)
            for no key update of t skip locked
          ), touched as (
            -- A token that is still valid is refreshed ahead again.
            update upstream_token t set last_used_at = now(), dormant_at = null from used
            where (t.user_id, t.route_id, t.upstream) = (used.user_id, used.route_id, used.upstream)
          )
          insert into audit_event (action, user_id, client_id, grant_id, route_id, upstream, issuer)
          select * from unnest(${of("action")}, ${of("userId")}, ${of("clientId")}, ${of("grantId")}, ${of("routeId")},
            ${of("upstream")}, ${of("issuer")})`.execute(db),
      );
    },
  };
}
