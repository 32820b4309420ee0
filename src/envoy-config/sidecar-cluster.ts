import type { Config } from "../config/config.ts";
import { envoySecretHeader, isTcp } from "../config/listeners.ts";
import { envoyAddress, type Json, typeUrl } from "./proto-json.ts";
import { clusterDefaults, clusterName, upstreamCluster } from "./upstream-cluster.ts";

type GrpcTls = NonNullable<Config["envoy"]["sidecar"]["grpcTls"]>;

/** A listener of the sidecar, at one or several addresses (`host:port` or `unix:/path`): gRPC over HTTP/2, or HTTP/1.1. */
export function sidecarCluster(
  name: string,
  addresses: readonly string[],
  grpc: boolean,
  tls?: GrpcTls,
): Json {
  const hosts = addresses.map((address) =>
    address.startsWith("unix:") ? address : address.slice(0, address.lastIndexOf(":")),
  );
  const http2 = {
    http2_protocol_options: {
      max_concurrent_streams: 1000,
      initial_stream_window_size: 1024 * 1024,
      initial_connection_window_size: 16 * 1024 * 1024,
      // Detects within 30 seconds that a replica is gone.
      connection_keepalive: { interval: "20s", timeout: "5s" },
    },
  };
  return {
    name,
    ...clusterDefaults(hosts),
    // HTTP/1.1 uses one connection per active request; further requests wait.
    ...(grpc
      ? {}
      : {
          circuit_breakers: {
            thresholds: [
              {
                max_connections: 1024,
                max_pending_requests: 16_384,
                max_requests: 65_536,
                max_retries: 1024,
              },
            ],
          },
        }),
    connect_timeout: "1s",
    // A stopping replica reports not ready and waits until Envoy has noticed; a replica that hangs is also skipped.
    health_checks: [
      {
        timeout: "2s",
        interval: "1s",
        no_traffic_interval: "1s",
        unhealthy_threshold: 1,
        healthy_threshold: 1,
        ...(grpc ? { grpc_health_check: {} } : { http_health_check: { host: "health", path: "/readyz" } }),
      },
    ],
    // Unhealthy replicas get no requests while one is healthy; if none is, all are tried. Updates are not merged: merging would delay
    // them by up to a second.
    common_lb_config: { healthy_panic_threshold: { value: 1 }, update_merge_window: "0s" },
    load_assignment: {
      cluster_name: name,
      endpoints: [
        { lb_endpoints: addresses.map((address) => ({ endpoint: { address: envoyAddress(address) } })) },
      ],
    },
    ...(tls ? { transport_socket: transportSocket(tls) } : {}),
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": typeUrl("extensions.upstreams.http.v3.HttpProtocolOptions"),
        explicit_http_config: grpc ? http2 : { http_protocol_options: {} },
      },
    },
  };
}

/**
 * The base of `grpc_service` for filters that call the sidecar: the cluster, and the secret that authenticates Envoy.
 */
export function sidecarGrpc(config: Config): { readonly [key: string]: Json } {
  const [secret] = config.envoy.sidecar.grpc.some(isTcp) ? config.listen.envoySecrets : [];
  return {
    envoy_grpc: { cluster_name: "sidecar_grpc" },
    ...(secret === undefined ? {} : { initial_metadata: [{ key: envoySecretHeader, value: secret }] }),
  };
}

/** Mutual TLS: only Envoy may call the sidecar (docs/threat-model.md). */
function transportSocket(tls: GrpcTls): Json {
  return {
    name: "envoy.transport_sockets.tls",
    typed_config: {
      "@type": typeUrl("extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
      sni: tls.serverName,
      common_tls_context: {
        tls_params: { tls_minimum_protocol_version: "TLSv1_2", tls_maximum_protocol_version: "TLSv1_3" },
        alpn_protocols: ["h2"],
        tls_certificates: [
          { certificate_chain: { filename: tls.certificate }, private_key: { filename: tls.key } },
        ],
        validation_context: {
          trusted_ca: { filename: tls.ca },
          match_typed_subject_alt_names: [{ san_type: "DNS", matcher: { exact: tls.serverName } }],
        },
      },
    },
  };
}

/**
 * Every cluster of a configuration: the sidecar's two listeners, the trace collector, and one per route.
 *
 * @param before the previous configuration: a running Envoy may still use its routes, so their clusters stay.
 */
export function clusters(config: Config, before?: Config): Json[] {
  const current = new Set(config.routes.map(clusterName));
  const former = before?.routes.filter((route) => !current.has(clusterName(route))) ?? [];
  return [
    sidecarCluster("sidecar_grpc", config.envoy.sidecar.grpc, true, config.envoy.sidecar.grpcTls),
    sidecarCluster("sidecar_http", config.envoy.sidecar.http, false),
    ...(config.envoy.tracing
      ? [sidecarCluster("otlp_collector", [config.envoy.tracing.collector], true)]
      : []),
    ...[...config.routes, ...former].map((route) => upstreamCluster(route, config.envoy.upstreamCa)),
  ];
}
