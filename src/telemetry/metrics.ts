import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

/** All metrics. Names follow the Prometheus conventions: base units, `_total`. */
export type Metrics = ReturnType<typeof createMetrics>;

const seconds = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5];

/** For steps that users take part in: from a click to a password and a second factor. */
const humanSeconds = [0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600];

/**
 * Creates the metrics in a new registry, so that two gateways in one test process do not share counts.
 * @param options.process adds `process_*` and `nodejs_*`: memory, processor time, event loop.
 */
export function createMetrics(options: { readonly process?: boolean } = {}) {
  const registry = new Registry();
  if (options.process) collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
    new Counter({ name: `envoy_mcp_auth_${name}`, help, labelNames: [...labelNames], registers });
  // Over workers, gauges are added up unless `aggregator` says otherwise.
  const gauge = <L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[],
    aggregator: "sum" | "min" | "max" = "sum",
  ) =>
    new Gauge({ name: `envoy_mcp_auth_${name}`, help, labelNames: [...labelNames], registers, aggregator });
  const refreshes = counter(
    "upstream_token_refreshes_total",
    "Refreshes of upstream tokens and requests for upstream tokens without consent, by outcome.",
    ["outcome"],
  );
  const configLoads = counter(
    "config_loads_total",
    "Loads of the routes file, by outcome (loaded, rejected).",
    ["outcome"],
  );
  const xdsResponses = counter(
    "xds_responses_total",
    "Responses to Envoys that fetch their configuration, by type (clusters, routes, listeners) and outcome (changed, unchanged, invalid).",
    ["type", "outcome"],
  );
  // `increase` misses the first event of a new series.
  for (const outcome of ["refreshed", "obtained", "rejected", "unavailable"]) refreshes.inc({ outcome }, 0);
  for (const outcome of ["loaded", "rejected"]) configLoads.inc({ outcome }, 0);
  return {
    registry,
    checks: counter("checks_total", "Authorization checks, by decision, reason and route.", [
      "decision",
      "reason",
      "route",
    ]),
    checkDuration: new Histogram({
      name: "envoy_mcp_auth_check_duration_seconds",
      help: "Duration of an authorization check in seconds, by decision.",
      labelNames: ["decision"],
      buckets: seconds,
      registers,
    }),
    cacheLookups: counter(
      "cache_lookups_total",
      "Lookups in an in-memory cache, by cache and result (hit, miss).",
      ["cache", "result"],
    ),
    upstreamOAuth: counter(
      "upstream_oauth_total",
      "Calls to upstreams' authorization servers, by step and outcome.",
      ["step", "outcome"],
    ),
    upstreamTokenRefreshes: refreshes,
    upstreamTokenRefreshesWaiting: gauge(
      "upstream_token_refreshes_waiting",
      "Connections that wait for the refresh of their upstream token, because many tokens have expired together.",
      [],
    ),
    consents: counter(
      "consents_total",
      "Authorization flows that ask for consent, by kind (client, upstream) and outcome.",
      ["kind", "outcome"],
    ),
    authorizationStepDuration: new Histogram({
      name: "envoy_mcp_auth_authorization_step_duration_seconds",
      help: "Duration of an authorization step in seconds, including the user's time, by step (login, consent, upstream) and outcome.",
      labelNames: ["step", "outcome"],
      buckets: humanSeconds,
      registers,
    }),
    authorizationDuration: new Histogram({
      name: "envoy_mcp_auth_authorization_duration_seconds",
      help: "Duration of an authorization flow in seconds, from its begin to its end, by kind (client, upstream) and outcome.",
      labelNames: ["kind", "outcome"],
      buckets: humanSeconds,
      registers,
    }),
    upstreamRejections: counter(
      "upstream_rejections_total",
      "Upstream 401 and 403 responses to an injected token, by status and outcome.",
      ["status", "outcome"],
    ),
    storeDuration: new Histogram({
      name: "envoy_mcp_auth_store_duration_seconds",
      help: "Duration of a database operation in seconds, by operation.",
      labelNames: ["operation"],
      buckets: seconds,
      registers,
    }),
    storeRowsRejected: counter(
      "store_rows_rejected_total",
      "Stored rows rejected because this service did not write them or they were modified since, by table.",
      ["table"],
    ),
    storeListenerUp: gauge(
      "store_listener_up",
      "1 while this replica's notification listener receives its own heartbeat; of several workers, of all of them.",
      [],
      "min",
    ),
    storeIndexesPending: gauge(
      "store_indexes_pending",
      "Indexes of the database that are missing or being built; background work that needs them waits.",
      [],
      "max",
    ),
    configLoads,
    configLastLoadSuccessful: gauge(
      "config_last_load_successful",
      "1 while the newest routes file is in use.",
      [],
      "min",
    ),
    routes: gauge("routes", "Routes in use, by source (file, database).", ["source"], "max"),
    routesRejected: gauge(
      "routes_rejected",
      "Routes in the database that answer 503 instead of being used, by reason (as in checks_total).",
      ["reason"],
      "max",
    ),
    memberCalls: counter(
      "aggregation_member_calls_total",
      "Requests of aggregated routes to their members, by the member's route and outcome (ok, error, consent, failed, cancelled).",
      ["route", "outcome"],
    ),
    aggregationStreams: gauge("aggregation_streams", "Open streams of clients of aggregated routes.", []),
    limitsReached: counter("limits_reached_total", "Requests and entries that reached a limit, by limit.", [
      "limit",
    ]),
    unauthenticatedCalls: counter(
      "unauthenticated_calls_total",
      "Calls rejected because the peer did not authenticate as Envoy or the metadata carries no valid proof of a check, by listener.",
      ["listener"],
    ),
    xdsResponses,
    xdsEnvoys: gauge(
      "xds_envoys",
      "Envoys that fetch their configuration from this replica, by state (current, behind).",
      ["state"],
    ),
    /** The supervisor of several workers sets this and the next. */
    workers: gauge("workers", "Processes of `serve --workers`, by state (starting, ready, draining).", [
      "state",
    ]),
    workerRestarts: counter(
      "worker_restarts_total",
      "Workers started again, by reason (ended, rolling_restart).",
      ["reason"],
    ),
    cacheEvictions: counter(
      "cache_evictions_total",
      "Entries evicted from a full in-memory cache, by cache.",
      ["cache"],
    ),
    errors: counter("errors_total", "Internal errors, by component and code.", ["component", "code"]),
  };
}
