import { dirname } from "node:path";
import type { Config } from "../config.ts";
import { accessLog } from "./access-log.ts";
import { envoyAddress } from "./envoy-address.ts";
import { earlyBytes, httpFilters } from "./http-filters.ts";
import type { Json } from "./json.ts";
import { localReplies } from "./local-replies.ts";
import { typeUrl } from "./type-url.ts";
import { virtualHosts } from "./virtual-hosts.ts";

/** From the first byte: the TLS handshake, and the headers of a request. */
const openingTimeout = "10s";

/**
 * The one listener: TLS, HTTP/1.1 and HTTP/2, paths normalised before anybody judges them. Whatever a client can leave
 * unfinished has a time-out; answers have none, for event streams end when their parties say so.
 */
export function listener(config: Config): { readonly [key: string]: Json } {
  return {
    name: "mcp",
    address: envoyAddress(config.envoy.listen),
    per_connection_buffer_limit_bytes: earlyBytes,
    // A crowd that connects at once leaves each worker time for those who are connected.
    max_connections_to_accept_per_socket_event: 16,
    // A client that vanished without a word, an event stream still open, is noticed within two minutes.
    tcp_keepalive: { keepalive_time: 60, keepalive_interval: 15, keepalive_probes: 4 },
    filter_chains: [
      {
        transport_socket_connect_timeout: openingTimeout,
        filters: [{ name: "http", typed_config: connectionManager(config) }],
        transport_socket: {
          name: "envoy.transport_sockets.tls",
          typed_config: {
            "@type": typeUrl("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            common_tls_context: {
              tls_params: { tls_minimum_protocol_version: "TLSv1_2" },
              alpn_protocols: ["h2", "http/1.1"],
              tls_certificates: [
                {
                  certificate_chain: { filename: config.envoy.tls.certificate },
                  private_key: { filename: config.envoy.tls.key },
                  // A renewed certificate is taken up without a restart.
                  watched_directory: { path: dirname(config.envoy.tls.certificate) },
                },
              ],
            },
          },
        },
      },
    ],
  };
}

function connectionManager(config: Config): Json {
  return {
    "@type": typeUrl("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "mcp",
    codec_type: "AUTO",
    access_log: [accessLog()],
    use_remote_address: true,
    xff_num_trusted_hops: config.envoy.xffNumTrustedHops,
    internal_address_config: { unix_sockets: false },
    generate_request_id: true,
    always_set_request_id_in_response: true,
    normalize_path: true,
    merge_slashes: true,
    path_with_escaped_slashes_action: "REJECT_REQUEST",
    strip_matching_host_port: false,
    server_header_transformation: "PASS_THROUGH",
    common_http_protocol_options: {
      headers_with_underscores_action: "REJECT_REQUEST",
      idle_timeout: seconds(config.envoy.idleTimeout),
    },
    // Floods of control frames, empty frames and resets end the connection by Envoy's own limits.
    http2_protocol_options: {
      max_concurrent_streams: 100,
      initial_stream_window_size: earlyBytes,
      initial_connection_window_size: 1024 * 1024,
      connection_keepalive: { interval: "60s", timeout: "20s" },
    },
    // Our check refuses what is too long with a reason (431); this is for what is longer still.
    max_request_headers_kb: Math.min(8192, Math.ceil(config.check.maxHeaderBytes / 1024) + 4),
    request_headers_timeout: openingTimeout,
    request_timeout: seconds(config.envoy.requestTimeout),
    stream_idle_timeout: "0s",
    stream_flush_timeout: seconds(config.envoy.requestTimeout),
    ...tracing(config),
    local_reply_config: localReplies(),
    http_filters: httpFilters(config),
    route_config: { name: "mcp", validate_clusters: false, virtual_hosts: virtualHosts(config) },
  };
}

function seconds(value: number): string {
  return `${value}s`;
}

/** Spans of Envoy's own; the check and our pages hang theirs below them. */
function tracing(config: Config): { readonly [key: string]: Json } {
  const { tracing } = config.envoy;
  if (tracing === undefined) return {};
  return {
    tracing: {
      random_sampling: { value: tracing.samplePercent },
      // Off by default; without it, what Envoy and the upstream do cannot be told apart.
      spawn_upstream_span: true,
      provider: {
        name: "envoy.tracers.opentelemetry",
        typed_config: {
          "@type": typeUrl("config.trace.v3.OpenTelemetryConfig"),
          grpc_service: { envoy_grpc: { cluster_name: "otlp_collector" }, timeout: "5s" },
          service_name: "envoy",
        },
      },
    },
  };
}
