import type { Config } from "../config/config.ts";
import { consentHeader } from "../config/header-names.ts";
import { affinityFilter, affinityState, sidecarGrpc } from "./clusters.ts";
import { challengeFilter, elicitationOfClient, sessionMatch } from "./ext-proc-filter.ts";
import { type Json, typeUrl } from "./proto-json.ts";
import { checkTimeout } from "./timeouts.ts";

/** For a retry policy: selects a host that has not failed yet, if there is one. */
export const retryElsewhere: { readonly [key: string]: Json } = {
  retry_host_predicate: [
    {
      name: "envoy.retry_host_predicates.previous_hosts",
      typed_config: { "@type": typeUrl("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate") },
    },
  ],
  // Each attempt is the next entry of the ring: with five, one user in 64 would be stuck with the failed one of two hosts.
  host_selection_retry_max_attempts: 50,
};

/** Runs on routes where policy inspects bodies, before the body is buffered. */
export const headerCheckFilter = "envoy_mcp_auth.header_check";
/** Runs on the gateway's own paths: a request uses a connection to the sidecar only when its body is complete. */
export const ownBodyFilter = "envoy_mcp_auth.own_body";
/** How much of a body Envoy buffers before the check has responded; later filters request more if they need it. Bytes. */
export const earlyBytes = 64 * 1024;
/** The tool of a `tools/call`, for the access log. */
const toolOfCall = ["params", "name"] as const;
/** Filter state: what the client has asked for, before Envoy rewrites host and path for the upstream. */
const requestedUrl = "envoy_mcp_auth.requested";
/** Above any `limits.body_bytes`, so that the sidecar rejects a longer body, with a reason. Bytes. */
export const ownBodyBytes = 64 * 1024;

/**
 * The HTTP filters, in order. Headers that only the gateway may set (`x-pomerium-*`) are removed, and what the client asks for is kept
 * for the access log. ext_authz calls the sidecar; routes that inspect bodies make one more call before the body. The MCP filter
 * records method and tool for the access log, after ext_authz, so that bodies are only parsed for authenticated callers. The challenge
 * filter sees the upstream's response before ext_authz adds its headers, because responses pass the filters in reverse order.
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
            // A client must not control timeouts, retries or statistics.
            { remove_on_match: { key_matcher: { prefix: "x-envoy-", ignore_case: true } } },
            // Envoy adds the actual one.
            { remove: "x-forwarded-host" },
            // Envoy's secret, set on requests to the sidecar, and the call that a check has allowed: never from a client.
            { remove_on_match: { key_matcher: { prefix: "x-mcp-auth-", ignore_case: true } } },
          ],
          // Trailers are not checked, and some servers treat them as headers.
          request_trailers_mutations: [{ remove_on_match: { key_matcher: { safe_regex: { regex: ".+" } } } }],
        },
      },
    },
    {
      name: "envoy_mcp_auth.requested",
      typed_config: {
        "@type": typeUrl("extensions.filters.http.set_filter_state.v3.Config"),
        on_request_headers: [
          {
            object_key: requestedUrl,
            factory_key: "envoy.string",
            format_string: {
              text_format_source: { inline_string: "%REQ(:AUTHORITY)%%PATH(NQ:PATH)%" },
              omit_empty_values: true,
            },
          },
        ],
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
        // Routes that do not inspect bodies disable this (`routes.ts`). The reverse would lose `pack_as_bytes`: Envoy reads it only
        // here, not per route.
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
        // What `ext-proc-filter.ts` matches, and the tool for the access log; by default, the protocol version and the client's name would be recorded.
        parser_config: {
          methods: [
            { method: "initialize", extraction_rules: [{ path: elicitationOfClient.join(".") }] },
            { method: "tools/call", extraction_rules: [{ path: toolOfCall.join(".") }] },
          ],
        },
      },
    },
    { name: affinityFilter, disabled: true, typed_config: affinityState() },
    challengeFilter(config, [sessionMatch(config)]),
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
  const timeout = checkTimeout(config);
  return {
    "@type": typeUrl("extensions.filters.http.ext_authz.v3.ExtAuthz"),
    transport_api_version: "V3",
    grpc_service: {
      ...sidecarGrpc(config, [{ key: consentHeader, value: "call" }]),
      // A check changes no state: if a replica dies during a check, it is retried on another one.
      retry_policy: {
        retry_on: "connect-failure,refused-stream,reset",
        num_retries: 5,
        ...retryElsewhere,
        // `max_interval` is also the timeout of each try.
        retry_back_off: { base_interval: "0.01s", max_interval: timeout },
      },
      timeout,
    },
    failure_mode_allow: false,
    status_on_error: { code: "ServiceUnavailable" },
    validate_mutations: true,
    // Sends each header separately: two `Authorization` headers must not look like one.
    encode_raw_headers: true,
    // Only for the calls that the check sends to the sidecar's HTTP listener (`virtual-hosts.ts`).
    clear_route_cache: true,
    clear_route_cache_headers: [consentHeader],
    ...body,
  };
}

/** One JSON line per request on standard output, without query strings and without headers that contain secrets. */
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
          // The router removes Envoy's header with the original path, so that upstreams do not see it.
          requested: `%FILTER_STATE(${requestedUrl}:PLAIN)%`,
          authority: "%REQ(:AUTHORITY)%",
          path: "%PATH(NQ:ORIG_OR_PATH)%",
          protocol: "%PROTOCOL%",
          status: "%RESPONSE_CODE%",
          details: "%RESPONSE_CODE_DETAILS%",
          flags: "%RESPONSE_FLAGS%",
          route: "%ROUTE_NAME%",
          mcp: "%DYNAMIC_METADATA(envoy.filters.http.mcp:method)%",
          // The client writes the name: a longer one is cut.
          tool: `%DYNAMIC_METADATA(envoy.filters.http.mcp:${toolOfCall.join(":")}):256%`,
          user: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:user)%",
          mcp_client: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:client)%",
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
