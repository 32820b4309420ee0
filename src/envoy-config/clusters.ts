import { isIP } from "node:net";
import type { Config } from "../config/config.ts";
import { envoySecretHeader, isTcp } from "../config/listeners.ts";
import { aggregateOf, type Route } from "../model/route.ts";
import { envoyAddress, type Json, typeUrl } from "./proto-json.ts";
import {
  healthCheckTimes,
  sidecarConnectTimeout,
  sidecarKeepalive,
  upstreamConnectTimeout,
} from "./timeouts.ts";

/** TLS to a sidecar: its CA and name, and Envoy's own certificate if the sidecar asks for one. */
interface SidecarTls {
  readonly ca: string;
  readonly serverName: string;
  readonly certificate?: string;
  readonly key?: string;
}

/** A listener of the sidecar, at one or several addresses (`host:port` or `unix:/path`): gRPC over HTTP/2, or HTTP/1.1. */
export function sidecarCluster(
  name: string,
  addresses: readonly string[],
  grpc: boolean,
  tls?: SidecarTls,
): { readonly [key: string]: Json } {
  const hosts = addresses.map((address) =>
    address.startsWith("unix:") ? address : address.slice(0, address.lastIndexOf(":")),
  );
  const http2 = {
    http2_protocol_options: {
      max_concurrent_streams: 1000,
      initial_stream_window_size: 1024 * 1024,
      initial_connection_window_size: 16 * 1024 * 1024,
      connection_keepalive: sidecarKeepalive,
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
    connect_timeout: sidecarConnectTimeout,
    health_checks: [
      {
        ...healthCheckTimes,
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
    ...(tls ? { transport_socket: sidecarTls(tls, grpc ? ["h2"] : []) } : {}),
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
 *
 * @param more sent with each call as well
 */
export function sidecarGrpc(
  config: Config,
  more: readonly { readonly key: string; readonly value: string }[] = [],
): { readonly [key: string]: Json } {
  const [secret] = config.envoy.sidecar.grpc.some(isTcp) ? config.listen.envoySecrets : [];
  const metadata = [...(secret === undefined ? [] : [{ key: envoySecretHeader, value: secret }]), ...more];
  return {
    envoy_grpc: { cluster_name: "sidecar_grpc" },
    ...(metadata.length === 0 ? {} : { initial_metadata: metadata }),
  };
}

/** What a route adds to requests to the sidecar's HTTP listener: the secret that authenticates Envoy over TCP. */
export function sidecarHeaders(config: Config): { readonly [key: string]: Json } {
  const [secret] = config.envoy.sidecar.http.some(isTcp) ? config.listen.envoySecrets : [];
  if (secret === undefined) return {};
  return {
    request_headers_to_add: [
      { header: { key: envoySecretHeader, value: secret }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" },
    ],
  };
}

/** With a certificate of Envoy: only Envoy may call the sidecar (docs/threat-model.md). */
export function sidecarTls({ ca, serverName, certificate, key }: SidecarTls, alpn: readonly string[]): Json {
  return {
    name: "envoy.transport_sockets.tls",
    typed_config: {
      "@type": typeUrl("extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
      sni: serverName,
      common_tls_context: {
        tls_params: { tls_minimum_protocol_version: "TLSv1_2", tls_maximum_protocol_version: "TLSv1_3" },
        ...(alpn.length === 0 ? {} : { alpn_protocols: alpn }),
        ...(certificate === undefined || key === undefined
          ? {}
          : {
              tls_certificates: [
                { certificate_chain: { filename: certificate }, private_key: { filename: key } },
              ],
            }),
        validation_context: {
          trusted_ca: { filename: ca },
          match_typed_subject_alt_names: [{ san_type: "DNS", matcher: { exact: serverName } }],
        },
      },
    },
  };
}

/**
 * Every cluster of a configuration: the sidecar's two listeners, the trace collector, and one per route.
 *
 * @param before routes that a running Envoy may still use: their clusters stay.
 */
export function clusters(config: Config, before: readonly Route[] = []): { readonly [key: string]: Json }[] {
  const current = new Set(config.routes.map(clusterName));
  const former = before.filter((route) => !current.has(clusterName(route)));
  const all = [...config.routes, ...former];
  return [
    sidecarCluster("sidecar_grpc", config.envoy.sidecar.grpc, true, config.envoy.sidecar.grpcTls),
    sidecarCluster("sidecar_http", config.envoy.sidecar.http, false, config.envoy.sidecar.httpTls),
    ...(all.some(aggregateOf) ? [aggregateCluster(config)] : []),
    ...(config.envoy.tracing
      ? [sidecarCluster("otlp_collector", [config.envoy.tracing.collector], true)]
      : []),
    ...all
      .filter((route) => aggregateOf(route) === undefined)
      .map((route) => upstreamCluster(route, config.envoy.upstreamCa)),
  ];
}

const aggregateClusterName = "sidecar_mcp";

/** Half of what one listener of the sidecar accepts. A request takes one connection, and waits for it. */
const aggregateLimits = {
  max_connections: 4096,
  max_pending_requests: 1024,
  max_requests: 65_536,
  max_retries: 1024,
};

/**
 * The sidecar's HTTP listener for aggregated routes. Their event streams hold connections for hours: with connections of their own, they
 * cannot use up those of sign-in (`sidecar_http`).
 */
function aggregateCluster({ envoy }: Config): { readonly [key: string]: Json } {
  return {
    ...sidecarCluster(aggregateClusterName, envoy.sidecar.http, false, envoy.sidecar.httpTls),
    circuit_breakers: { thresholds: [aggregateLimits] },
    ...affinityBalancer,
  };
}

/** For an Envoy route: a session stays at one replica while it is healthy. Any replica can continue it, at a higher cost. */
export const sessionPolicy: { readonly [key: string]: Json } = {
  hash_policy: [{ header: { header_name: "mcp-session-id" } }],
};

/** Settings of all clusters. MCP streams stay open for hours, which would exhaust Envoy's default of 1,024 concurrent requests. */
export function clusterDefaults(hosts: readonly string[]): { readonly [key: string]: Json } {
  const named = hosts.some(
    (host) => !host.startsWith("unix:") && isIP(host.replace(/^\[(.*)\]$/, "$1")) === 0,
  );
  return {
    type: named ? "STRICT_DNS" : "STATIC",
    ...(named ? { dns_lookup_family: "V4_PREFERRED" } : {}),
    connect_timeout: upstreamConnectTimeout,
    circuit_breakers: {
      thresholds: [
        { max_connections: 65_536, max_pending_requests: 65_536, max_requests: 65_536, max_retries: 1024 },
      ],
    },
    upstream_connection_options: { tcp_keepalive: { keepalive_time: 60, keepalive_interval: 15 } },
  };
}

/**
 * A different upstream is a different cluster, so that a request always goes to the upstream it was checked for. The sidecar itself
 * answers for aggregated routes.
 */
export function clusterName(route: Route): string {
  return aggregateOf(route) === undefined ? `route/${route.id}/${route.upstreamHash}` : aggregateClusterName;
}

/** The cluster of a route's `to`: TLS with SNI and name verification for https, one endpoint per `to`. */
function upstreamCluster(route: Route, upstreamCa: string): { readonly [key: string]: Json } {
  const urls = route.to.map((url) => new URL(url));
  const tls = urls[0]?.protocol === "https:";
  const name = clusterName(route);
  return {
    name,
    // Statistics keep their name when the upstream changes.
    alt_stat_name: `route/${route.id}`,
    ...clusterDefaults(urls.map((url) => url.hostname)),
    ...(hasAffinity(route) ? affinityBalancer : {}),
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: urls.map((url) => ({ endpoint: endpoint(url, tls) })) }],
    },
    ...(tls ? { transport_socket: upstreamTls(route, urls, upstreamCa) } : {}),
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": typeUrl("extensions.upstreams.http.v3.HttpProtocolOptions"),
        ...(tls
          ? { auto_config: { http2_protocol_options: windows } }
          : { explicit_http_config: { http_protocol_options: {} } }),
      },
    },
  };
}

const windows = { initial_stream_window_size: 1024 * 1024, initial_connection_window_size: 16 * 1024 * 1024 };

function endpoint(url: URL, tls: boolean): Json {
  return {
    // For TLS, the name is used as SNI, which has no port.
    hostname: tls ? bare(url.hostname) : url.host,
    address: {
      socket_address: { address: bare(url.hostname), port_value: Number(url.port) || (tls ? 443 : 80) },
    },
  };
}

function upstreamTls(route: Route, urls: readonly URL[], upstreamCa: string): Json {
  const names = new Set(urls.map((url) => bare(url.hostname)));
  const [only] = names;
  const name = route.upstreamTls?.serverName ?? (names.size === 1 ? only : undefined);
  const address = name !== undefined && isIP(name) !== 0;
  return {
    name: "envoy.transport_sockets.tls",
    typed_config: {
      "@type": typeUrl("extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
      // Several hosts behind one route: SNI and verification use each endpoint's own name.
      ...(name === undefined ? { auto_host_sni: true, auto_sni_san_validation: true } : {}),
      ...(name !== undefined && !address ? { sni: name } : {}),
      common_tls_context: {
        tls_params: { tls_minimum_protocol_version: "TLSv1_2" },
        alpn_protocols: ["h2", "http/1.1"],
        validation_context: {
          trusted_ca: { filename: route.upstreamTls?.caFile ?? upstreamCa },
          ...(name === undefined
            ? {}
            : {
                match_typed_subject_alt_names: [
                  { san_type: address ? "IP_ADDRESS" : "DNS", matcher: { exact: name } },
                ],
              }),
        },
      },
    },
  };
}

function bare(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, "$1");
}

/** Enabled on routes whose upstream has several addresses. */
export const affinityFilter = "envoy_mcp_auth.affinity";
const key = "envoy_mcp_auth.affinity";
const checked = "envoy.filters.http.ext_authz";

/**
 * Whether a route's upstream may have several endpoints: several `to`, or a host name, which may have several addresses. An MCP
 * server keeps a session in one of them, so all requests of one person and client go to the same endpoint. The session id cannot
 * select it: the endpoint must be known before the first response names the session, and legacy streams name it in a URL.
 */
export function hasAffinity({ mcp, to }: Route): boolean {
  if (mcp.kind !== "server") return false;
  return to.length > 1 || to.some((url) => isIP(new URL(url).hostname.replace(/^\[(.*)\]$/, "$1")) === 0);
}

/** Passes the user and client that the check found to the load balancer. */
export function affinityState(): Json {
  return {
    "@type": typeUrl("extensions.filters.http.set_filter_state.v3.Config"),
    on_request_headers: [
      {
        object_key: key,
        factory_key: "envoy.hashable_string",
        format_string: {
          text_format_source: {
            inline_string: `%DYNAMIC_METADATA(${checked}:user)% %DYNAMIC_METADATA(${checked}:client)%`,
          },
        },
      },
    ],
  };
}

/** For an Envoy route. */
export const affinityPolicy: { readonly [key: string]: Json } = {
  hash_policy: [{ filter_state: { key } }],
};

/** For its cluster: when an endpoint is added or removed, users of the other endpoints stay where they are. */
const affinityBalancer: { readonly [key: string]: Json } = {
  lb_policy: "RING_HASH",
  ring_hash_lb_config: { minimum_ring_size: 256 },
};
