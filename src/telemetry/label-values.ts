/**
 * The values that the labels of the product's metrics can have, by metric without its prefix and by label. docs/monitoring.md lists them,
 * and tests compare dashboard, alerts and other pages with them, and with what every test stack has measured.
 *
 * Text instead of a list: the values are not few, or not fixed; the text says where they come from.
 */
export const labelValues = {
  checks_total: {
    decision: ["allow", "ask", "challenge", "deny", "reply", "redirect"],
    reason: "[reasons](troubleshooting.md#reasons)",
    route: "ids of routes; empty: none",
  },
  check_duration_seconds: { decision: ["allow", "ask", "challenge", "deny", "reply", "redirect"] },
  cache_lookups_total: { cache: ["external_token", "upstream_token", "discovery"], result: ["hit", "miss"] },
  cache_evictions_total: {
    cache: [
      ...["external_token", "session_token", "member_token", "browser_session", "person", "granted_member"],
      ...["connection", "discovery"],
    ],
  },
  aggregation_member_calls_total: {
    route: "ids of members",
    outcome: ["ok", "error", "consent", "failed", "cancelled"],
  },
  limits_reached_total: {
    limit: [
      ...["admin_code_attempts", "admin_codes"],
      ...["aggregated_list_bytes", "aggregated_requests_per_session", "aggregated_requests_per_user"],
      ...["aggregated_sessions_per_user", "aggregation_notifications", "aggregation_parked_calls"],
      ...[
        "aggregation_streams",
        "aggregation_unsent_bytes",
        "assertion_claims",
        "assertion_groups",
        "authorizations_per_address",
      ],
      ...["body_bytes", "client_fetches_at_once", "client_fetches_per_address", "client_fetches_per_host"],
      ...["consent_links_per_user", "header_bytes", "log_lines", "pending_authorizations_per_user"],
      ...[
        "registrations_per_address",
        "replica_messages",
        "token_bytes",
        "tool_list_bytes",
        "tool_list_work",
      ],
      ...["upstream_verifications", "watched_streams"],
    ],
  },
  store_rows_rejected_total: { table: "tables of the database" },
  upstream_oauth_total: {
    step: ["discovery", "notice", "prepare", "begin", "finish", "refresh", "obtain", "probe", "revoke"],
    outcome:
      "`ok`, `unknown` (a probe that shows nothing), a [fault of an upstream](troubleshooting.md#faults-of-an-upstream), or why a token cannot be refreshed",
  },
  upstream_token_refreshes_total: { outcome: ["refreshed", "obtained", "rejected", "unavailable"] },
  consents_total: { kind: ["client", "upstream"], outcome: ["started", "granted", "denied", "failed"] },
  authorization_duration_seconds: { kind: ["client", "upstream"], outcome: ["granted", "denied", "failed"] },
  authorization_step_duration_seconds: {
    step: ["login", "consent", "upstream"],
    outcome: "`ok` or an OAuth error",
  },
  upstream_rejections_total: {
    status: ["401", "403"],
    outcome: ["untouched", "retry", "consent", "unavailable", "give_up", "failed", "deadline_exceeded"],
  },
  store_duration_seconds: { operation: "operations of the store, such as `upstream_token.find`" },
  audit_chain_rounds_total: { outcome: ["completed", "failed"] },
  audit_chain_problems_total: { problem: ["invalid_checkpoint", "shortened", "rewritten"] },
  audit_exports_total: { outcome: ["completed", "failed"] },
  config_loads_total: { outcome: ["loaded", "rejected"] },
  routes: { source: ["file", "database"] },
  routes_rejected: {
    reason: ["route_unreadable", "route_invalid", "route_row_rejected", "credential_missing"],
  },
  unauthenticated_calls_total: { listener: ["grpc", "http", "xds"] },
  xds_envoys: { state: ["current", "behind"] },
  xds_responses_total: {
    type: ["clusters", "routes", "listeners"],
    outcome: ["changed", "unchanged", "invalid"],
  },
  workers: { state: ["starting", "ready", "draining"] },
  worker_restarts_total: { reason: ["ended", "rolling_restart"] },
  errors_total: {
    component: ["ext-authz", "ext-proc", "http", "authorization-server", "process"],
    code: "stable codes, which are also in the log",
  },
} as const satisfies Readonly<Record<string, Readonly<Record<string, string | readonly string[]>>>>;

/** The declared values of a label; undefined: no such metric or label. @param metric without the product's prefix */
export function valuesOf(metric: string, label: string): string | readonly string[] | undefined {
  const declared: Readonly<Record<string, Readonly<Record<string, string | readonly string[]>>>> =
    labelValues;
  return declared[metric]?.[label];
}
