import { isIP } from "node:net";
import type { Route } from "../model/route.ts";
import { affinityBalancer, hasAffinity } from "./affinity.ts";
import { type Json, typeUrl } from "./proto-json.ts";

/** Settings of all clusters. MCP streams stay open for hours, which would exhaust Envoy's default of 1,024 concurrent requests. */
export function clusterDefaults(hosts: readonly string[]): { readonly [key: string]: Json } {
  const named = hosts.some(
    (host) => !host.startsWith("unix:") && isIP(host.replace(/^\[(.*)\]$/, "$1")) === 0,
  );
  return {
    type: named ? "STRICT_DNS" : "STATIC",
    ...(named ? { dns_lookup_family: "V4_PREFERRED" } : {}),
    connect_timeout: "5s",
    circuit_breakers: {
      thresholds: [
        { max_connections: 65_536, max_pending_requests: 65_536, max_requests: 65_536, max_retries: 1024 },
      ],
    },
    upstream_connection_options: { tcp_keepalive: { keepalive_time: 60, keepalive_interval: 15 } },
  };
}

/** A different upstream is a different cluster, so that a request always goes to the upstream it was checked for. */
export function clusterName(route: Route): string {
  return `route/${route.id}/${route.upstreamHash}`;
}

/** The cluster of a route's `to`: TLS with SNI and name verification for https, one endpoint per `to`. */
export function upstreamCluster(route: Route, upstreamCa: string): Json {
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
    ...(tls ? { transport_socket: transportSocket(route, urls, upstreamCa) } : {}),
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

function transportSocket(route: Route, urls: readonly URL[], upstreamCa: string): Json {
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
