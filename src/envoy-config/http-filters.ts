import type { Config } from "../config/config.ts";
import { envoySecretHeader } from "../config/listeners.ts";
import { affinityFilter, affinityState } from "./affinity.ts";
import { type Json, typeUrl } from "./proto-json.ts";
import { challengeFilter } from "./response-filter.ts";
import { sidecarGrpc } from "./sidecar-cluster.ts";

/** For a retry policy: another host than those that failed already, as long as there is one. */
export const retryElsewhere: { readonly [key: string]: Json } = {
  retry_host_predicate: [
    {
      name: "envoy.retry_host_predicates.previous_hosts",
      typed_config: { "@type": typeUrl("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate") },
    },
  ],
  host_selection_retry_max_attempts: 5,
};

/** Runs where policy inspects bodies, before any of the body is buffered (`header-check.ts`). */
export const headerCheckFilter = "envoy_mcp_auth.header_check";
/** Runs on our own paths: their bodies are complete before a connection to us is taken for them. */
export const ownBodyFilter = "envoy_mcp_auth.own_body";
/** What a client may send of each body before the check has answered; the filters behind it ask for more where they need it. Bytes. */
export const earlyBytes = 64 * 1024;
/** More than `limits.body_bytes` can be: what is longer than that limit is answered by us, with a reason. Bytes. */
export const ownBodyBytes = 64 * 1024;

/**
 * The way of a request, in order. What only we may say (`x-pomerium-*`) is stripped; ext_authz asks us, on routes that inspect
 * bodies once before the body; the MCP filter notes method and tool for the log (after ext_authz, so that nobody's body is
 * parsed before we know whose it is); the challenge filter sees the upstream's answer before ext_authz adds its headers to it,
 * for responses travel upwards.
 */
export function httpFilters(config: Config): Json[] {
  return [
    {
      name: "envoy.filters.http.header_mutation",
      typed_config: {
        "@type": typeUrl("extensions.filters.http.header_mutation.v3.HeaderMutation"),
        mutations: {
          request_mutations: [
            { remove_on_match: { key_matcher: { prefix: "x-pomerium-", ignore_case: true } } },
            // A client must not set time-outs, retries or statistics.
            { remove_on_match: { key_matcher: { prefix: "x-envoy-", ignore_case: true } } },
            // Envoy appends the one it has seen itself.
            { remove: "x-forwarded-host" },
            // Ours to our own endpoints (`virtual-hosts.ts`); an upstream must not see a client try.
            { remove: envoySecretHeader },
          ],
          // Nobody checks what comes behind the body, and some servers take it for headers.
          request_trailers_mutations: [{ remove_on_match: { key_matcher: { safe_regex: { regex: ".+" } } } }],
        },
      },
    },
    {
      name: ownBodyFilter,
      disabled: true,
      typed_config: {
        "@type": typeUrl("extensions.filters.http.buffer.v3.Buffer"),
        max_request_bytes: ownBodyBytes,
      },
    },
    { name: headerCheckFilter, disabled: true, typed_config: extAuthz(config) },
    {
      name: "envoy.filters.http.ext_authz",
      typed_config: extAuthz(config, {
        // Routes that inspect no body turn this off (`route-entries.ts`). The other way round would lose `pack_as_bytes`: Envoy
        // reads it here only, whatever a route says.
        with_request_body: {
          max_request_bytes: 64 * 1024,
          allow_partial_message: false,
          pack_as_bytes: true,
        },
      }),
    },
    {
      name: "envoy.filters.http.mcp",
      typed_config: {
        "@type": typeUrl("extensions.filters.http.mcp.v3.Mcp"),
        traffic_mode: "PASS_THROUGH",
        request_storage_mode: "DYNAMIC_METADATA",
      },
    },
    { name: affinityFilter, disabled: true, typed_config: affinityState() },
    challengeFilter(config),
    {
      name: "envoy.filters.http.router",
      typed_config: {
        "@type": typeUrl("extensions.filters.http.router.v3.Router"),
        suppress_envoy_headers: true,
      },
    },
  ];
}

function extAuthz(config: Config, body: { readonly [key: string]: Json } = {}): Json {
  const timeout = `${(config.check.deadlineMs + 500) / 1000}s`;
  return {
    "@type": typeUrl("extensions.filters.http.ext_authz.v3.ExtAuthz"),
    transport_api_version: "V3",
    grpc_service: {
      ...sidecarGrpc(config),
      // A check changes nothing, so one that was under way when its replica died is asked again elsewhere.
      retry_policy: {
        retry_on: "connect-failure,refused-stream,reset",
        num_retries: 5,
        ...retryElsewhere,
        // The longer one is the time-out of each try, too.
        retry_back_off: { base_interval: "0.01s", max_interval: timeout },
      },
      // A check answers within its own deadline; this is for one that cannot answer at all.
      timeout,
    },
    failure_mode_allow: false,
    status_on_error: { code: "ServiceUnavailable" },
    validate_mutations: true,
    // Header by header: two `Authorization`s must not look like one.
    encode_raw_headers: true,
    clear_route_cache: false,
    ...body,
  };
}

/** One JSON line per request on standard output. No query strings, no headers that carry secrets. */
export function accessLog(): Json {
  return {
    name: "envoy.access_loggers.stdout",
    typed_config: {
      "@type": typeUrl("extensions.access_loggers.stream.v3.StdoutAccessLog"),
      log_format: {
        json_format: {
          time: "%START_TIME%",
          request_id: "%REQ(X-REQUEST-ID)%",
          traceparent: "%REQ(TRACEPARENT)%",
          method: "%REQ(:METHOD)%",
          authority: "%REQ(:AUTHORITY)%",
          path: "%PATH(NQ:ORIG_OR_PATH)%",
          protocol: "%PROTOCOL%",
          status: "%RESPONSE_CODE%",
          details: "%RESPONSE_CODE_DETAILS%",
          flags: "%RESPONSE_FLAGS%",
          route: "%ROUTE_NAME%",
          mcp: "%DYNAMIC_METADATA(envoy.filters.http.mcp:method)%",
          client: "%DOWNSTREAM_REMOTE_ADDRESS%",
          upstream: "%UPSTREAM_HOST%",
          duration_ms: "%DURATION%",
          bytes_received: "%BYTES_RECEIVED%",
          bytes_sent: "%BYTES_SENT%",
        },
      },
    },
  };
}
