import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

/** Every metric of the product, made in one place. Names follow Prometheus' conventions: base units, `_total`. */
export type Metrics = ReturnType<typeof createMetrics>;

const seconds = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5];

/** People take their time: from a click to a password and a second factor. */
const humanSeconds = [0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600];

/**
 * A registry of its own per process, so that two sidecars in one test process do not share counts.
 * @param options.process also `process_*` and `nodejs_*`: memory, processor time, event loop.
 */
export function createMetrics(options: { readonly process?: boolean } = {}) {
  const registry = new Registry();
  if (options.process) collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
    new Counter({ name: `envoy_mcp_auth_${name}`, help, labelNames: [...labelNames], registers });
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
    new Gauge({ name: `envoy_mcp_auth_${name}`, help, labelNames: [...labelNames], registers });
  const refreshes = counter(
    "upstream_token_refreshes_total",
    "Refreshes of upstream tokens, and grants without consent, by outcome.",
    ["outcome"],
  );
  const configLoads = counter("config_loads_total", "Loads of the routes file, by outcome.", ["outcome"]);
  // `increase` does not see the first event of a series that was not there before.
  for (const outcome of ["refreshed", "granted", "refused", "unavailable"]) refreshes.inc({ outcome }, 0);
  for (const outcome of ["loaded", "refused"]) configLoads.inc({ outcome }, 0);
  return {
    registry,
    checks: counter("checks_total", "Checks answered, by decision, reason and route.", [
      "decision",
      "reason",
      "route",
    ]),
    checkDuration: new Histogram({
      name: "envoy_mcp_auth_check_duration_seconds",
      help: "Time from a check's arrival to its answer, by decision.",
      labelNames: ["decision"],
      buckets: seconds,
      registers,
    }),
    cacheLookups: counter("cache_lookups_total", "Look-ups in an in-memory cache, by cache and result.", [
      "cache",
      "result",
    ]),
    upstreamOAuth: counter(
      "upstream_oauth_total",
      "Calls to upstreams' authorization servers, by step and outcome.",
      ["step", "outcome"],
    ),
    upstreamTokenRefreshes: refreshes,
    consents: counter("consents_total", "Consent trips, by kind (client, upstream) and outcome.", [
      "kind",
      "outcome",
    ]),
    authorizationStepDuration: new Histogram({
      name: "envoy_mcp_auth_authorization_step_duration_seconds",
      help: "Time a step of the authorization took, the person's own included, by step (login, consent, upstream) and outcome.",
      labelNames: ["step", "outcome"],
      buckets: humanSeconds,
      registers,
    }),
    challenges: counter(
      "upstream_challenges_total",
      "Upstream 401 and 403 answers, by what became of them.",
      ["status", "outcome"],
    ),
    storeDuration: new Histogram({
      name: "envoy_mcp_auth_store_duration_seconds",
      help: "Time one store operation took.",
      labelNames: ["operation"],
      buckets: seconds,
      registers,
    }),
    storeRowsRejected: counter(
      "store_rows_rejected_total",
      "Stored rows that this service did not write, or that were changed since, by table.",
      ["table"],
    ),
    storeListenerUp: gauge(
      "store_listener_up",
      "1 while this replica's notification listener hears its own heartbeat.",
      [],
    ),
    configLoads,
    configLastLoadSuccessful: gauge(
      "config_last_load_successful",
      "1 when the newest routes file is the one in use.",
      [],
    ),
    routes: gauge("routes", "Routes in force, by source (file, database).", ["source"]),
    routesRefused: gauge(
      "routes_refused",
      "Routes of the database that are not in force: they contradict the routes file.",
      [],
    ),
    limitsReached: counter("limits_reached_total", "Requests and entries that met a limit, by limit.", [
      "limit",
    ]),
    unauthenticatedCalls: counter(
      "unauthenticated_calls_total",
      "Calls turned away because the peer did not prove that it is Envoy, or because their metadata is not of a check of ours, by listener.",
      ["listener"],
    ),
    cacheEvictions: counter(
      "cache_evictions_total",
      "Entries that a full in-memory cache gave up, by cache.",
      ["cache"],
    ),
    errors: counter("errors_total", "Errors that reached nobody but the log, by room and code.", [
      "room",
      "code",
    ]),
  };
}
