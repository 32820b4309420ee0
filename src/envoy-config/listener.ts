import { dirname } from "node:path";
import { memberHosts } from "../config/aggregates.ts";
import type { Config } from "../config/config.ts";
import { consentHeader } from "../config/header-names.ts";
import { addressBlock, plainListeners } from "../config/listeners.ts";
import { accessLog, earlyBytes, httpFilters } from "./http-filters.ts";
import { localReplies } from "./local-replies.ts";
import { envoyAddress, type Json, typeUrl } from "./proto-json.ts";
import {
  clientKeepalive,
  idleTimeout,
  openingTimeout,
  requestTimeouts,
  traceExportTimeout,
} from "./timeouts.ts";
import { virtualHosts } from "./virtual-hosts.ts";

/**
 * The peers of a listener: clients over TLS, a TLS-terminating proxy in front of it, local programs, or the sidecar, which calls the
 * members of aggregated routes. Any local program can connect to the latter, too: it is checked like a client.
 */
type Peers = "tls" | "terminator" | "loopback" | "sidecar";

/** Where Envoy gets parts of a listener from (`ConfigSource`). */
export interface ListenerSources {
  readonly routes: (routeConfiguration: string) => Json;
  /** Of `listenerCertificate`. Without it, Envoy reads the files once, when it creates the listener. */
  readonly certificate?: Json;
}

/**
 * The listeners: one for all https origins, one per port for loopback origins such as `http://localhost`, and one for the sidecar if
 * there are aggregated routes.
 *
 * @param sources where Envoy gets what changes while it runs: a change of the listener would close its connections. Without them, the
 *   routes are part of the listener.
 */
export function listeners(config: Config, sources?: ListenerSources): { readonly [key: string]: Json }[] {
  const { listen, tls } = config.envoy;
  const atEnvoyListen = tls.terminatedBy === undefined ? "tls" : "terminator";
  return routeConfigurations(config).map(({ name, address, routes }) => {
    const peers = address === undefined ? atEnvoyListen : name === memberListener ? "sidecar" : "loopback";
    const routing: { readonly [key: string]: Json } =
      sources === undefined
        ? { route_config: routes }
        : { rds: { route_config_name: name, config_source: sources.routes(name) } };
    const certificateFrom = sources?.certificate;
    return listener(config, { name, address: address ?? listen, peers, routing, certificateFrom });
  });
}

/** The sidecar calls the members of aggregated routes here. */
const memberListener = "mcp-aggregation";

/** The `RouteConfiguration` of each listener, by the listener's name. */
export function routeConfigurations(config: Config): readonly {
  readonly name: string;
  readonly address?: string;
  readonly routes: { readonly [key: string]: Json };
}[] {
  const plain = plainListeners(config);
  const onPlain = new Set(plain.flatMap(({ hosts }) => [...hosts]));
  const { tls, xffNumTrustedHops } = config.envoy;
  const ofMembers = memberHosts(config);
  const of = (
    name: string,
    serves: (host: string) => boolean,
    {
      terminated = false,
      publicScheme,
    }: { readonly terminated?: boolean; readonly publicScheme?: true } = {},
  ) => ({
    name,
    validate_clusters: false,
    // If forwarded headers are not trusted, Envoy sets the protocol itself: http, whatever the client used.
    virtual_hosts: virtualHosts(config, {
      serves,
      httpsOnly: terminated && xffNumTrustedHops > 0,
      publicScheme,
    }),
    // Upstreams see the client's protocol, whether or not the terminator reports it.
    ...(terminated
      ? {
          request_headers_to_add: [
            {
              header: { key: "x-forwarded-proto", value: "https" },
              append_action: "OVERWRITE_IF_EXISTS_OR_ADD",
            },
          ],
        }
      : {}),
  });
  const https = [new URL(config.issuer), ...config.routes.map(({ origin }) => new URL(origin))].some(
    ({ protocol }) => protocol === "https:",
  );
  return [
    ...(https
      ? [
          {
            name: "mcp",
            routes: of("mcp", (host) => !onPlain.has(host), { terminated: tls.terminatedBy !== undefined }),
          },
        ]
      : []),
    ...plain.map(({ address, hosts }) => {
      const name = `mcp-http-${address}`;
      return { name, address, routes: of(name, (host) => hosts.has(host)) };
    }),
    ...(ofMembers.size === 0
      ? []
      : [
          {
            name: memberListener,
            address: config.aggregation.listen,
            routes: of(memberListener, (host) => ofMembers.has(host), { publicScheme: true }),
          },
        ]),
  ];
}

/**
 * HTTP/1.1 and HTTP/2; paths are normalized before they are checked.
 */
function listener(
  config: Config,
  given: {
    readonly name: string;
    readonly address: string;
    readonly peers: Peers;
    readonly routing: { readonly [key: string]: Json };
    readonly certificateFrom: Json | undefined;
  },
): { readonly [key: string]: Json } {
  const { name, address, peers, routing, certificateFrom } = given;
  return {
    name,
    address: envoyAddress(address),
    per_connection_buffer_limit_bytes: earlyBytes,
    // Many simultaneous new connections must not starve existing ones.
    max_connections_to_accept_per_socket_event: 16,
    // Detects within two minutes that a client with an open event stream is gone.
    tcp_keepalive: { keepalive_time: 60, keepalive_interval: 15, keepalive_probes: 4 },
    filter_chains: [
      {
        ...transport(config, peers, certificateFrom),
        filters: [{ name: "http", typed_config: connectionManager(config, peers, routing) }],
      },
    ],
  };
}

/** Transport and allowed peers: Envoy closes a connection that matches no filter chain. */
function transport(
  { envoy }: Config,
  peers: Peers,
  certificateFrom: Json | undefined,
): { readonly [key: string]: Json } {
  switch (peers) {
    case "loopback":
    case "sidecar":
      return {};
    case "terminator":
      return {
        filter_chain_match: {
          direct_source_prefix_ranges: (envoy.tls.terminatedBy ?? []).map((block) => {
            const [address, bits] = addressBlock(block);
            return { address_prefix: address.toString(), prefix_len: bits };
          }),
        },
      };
    case "tls":
      return {
        transport_socket_connect_timeout: openingTimeout,
        transport_socket: {
          name: "envoy.transport_sockets.tls",
          typed_config: {
            "@type": typeUrl("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            common_tls_context: {
              tls_params: { tls_minimum_protocol_version: "TLSv1_2" },
              alpn_protocols: ["h2", "http/1.1"],
              ...(certificateFrom === undefined
                ? { tls_certificates: [certificateFiles(envoy.tls)] }
                : {
                    tls_certificate_sds_secret_configs: [
                      { name: certificateName, sds_config: certificateFrom },
                    ],
                  }),
            },
          },
        },
      };
  }
}

const certificateName = "certificate";

/** The https listener's certificate and key. Envoy reads them again when a file is moved into their folder. */
export function listenerCertificate({ envoy }: Config): { readonly [key: string]: Json } {
  return {
    name: certificateName,
    tls_certificate: {
      ...certificateFiles(envoy.tls),
      // Envoy ignores it in a certificate that is part of a listener.
      watched_directory: { path: dirname(envoy.tls.certificate) },
    },
  };
}

function certificateFiles({ certificate, key }: Config["envoy"]["tls"]): { readonly [key: string]: Json } {
  return { certificate_chain: { filename: certificate }, private_key: { filename: key } };
}

/** Header mutations before Envoy processes a request, and selects its route. */
function earlyMutations(peers: Peers): { readonly [key: string]: Json } {
  const mutations: Record<Peers, readonly Json[]> = {
    tls: [],
    // Not every terminator sets it; a request with `http` is redirected to https (`virtual-hosts.ts`).
    terminator: [
      {
        append: {
          header: { key: "x-forwarded-proto", value: "https" },
          append_action: "ADD_IF_ABSENT",
        },
      },
    ],
    // No trusted proxy is in front of this listener, even if there is one in front of another.
    loopback: [{ remove: "x-forwarded-for" }],
    // The caller's address is in the sidecar's external token.
    sidecar: [{ remove: "x-forwarded-for" }],
  };
  return {
    early_header_mutation_extensions: [
      {
        name: "envoy.http.early_header_mutation.header_mutation",
        typed_config: {
          "@type": typeUrl("extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"),
          // It selects a route of its own (`virtual-hosts.ts`), so it must not come from a client.
          mutations: [{ remove: consentHeader }, ...mutations[peers]],
        },
      },
    ],
  };
}

function connectionManager(config: Config, peers: Peers, routing: { readonly [key: string]: Json }): Json {
  return {
    "@type": typeUrl("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "mcp",
    codec_type: "AUTO",
    access_log: [accessLog()],
    use_remote_address: true,
    xff_num_trusted_hops: peers === "loopback" || peers === "sidecar" ? 0 : config.envoy.xffNumTrustedHops,
    ...earlyMutations(peers),
    internal_address_config: { unix_sockets: false },
    generate_request_id: true,
    // The log lines of a call's checks have one id. It decides nothing.
    ...(peers === "sidecar" ? { preserve_external_request_id: true } : {}),
    always_set_request_id_in_response: true,
    normalize_path: true,
    merge_slashes: true,
    path_with_escaped_slashes_action: "REJECT_REQUEST",
    strip_matching_host_port: false,
    server_header_transformation: "PASS_THROUGH",
    common_http_protocol_options: {
      // Some servers treat `_` as `-`: a header must not reach the upstream under a different name than the one that is checked.
      headers_with_underscores_action: "DROP_HEADER",
      idle_timeout: idleTimeout(config),
    },
    // Envoy's own limits close connections with floods of control frames, empty frames or resets.
    http2_protocol_options: {
      max_concurrent_streams: 100,
      initial_stream_window_size: earlyBytes,
      initial_connection_window_size: 1024 * 1024,
      connection_keepalive: clientKeepalive,
    },
    // The check denies headers above its limit with a reason (431); this limit is slightly higher.
    max_request_headers_kb: Math.min(8192, Math.ceil(config.check.maxHeaderBytes / 1024) + 4),
    ...requestTimeouts(config),
    ...tracing(config),
    local_reply_config: localReplies(),
    http_filters: httpFilters(config),
    ...routing,
  };
}

/** Envoy's spans; the spans of checks and pages are their children. */
function tracing(config: Config): { readonly [key: string]: Json } {
  const { tracing } = config.envoy;
  if (tracing === undefined) return {};
  return {
    tracing: {
      random_sampling: { value: tracing.samplePercent },
      // Off by default; without it, the time spent in Envoy and in the upstream cannot be distinguished.
      spawn_upstream_span: true,
      provider: {
        name: "envoy.tracers.opentelemetry",
        typed_config: {
          "@type": typeUrl("config.trace.v3.OpenTelemetryConfig"),
          grpc_service: { envoy_grpc: { cluster_name: "otlp_collector" }, timeout: traceExportTimeout },
          service_name: "envoy",
        },
      },
    },
  };
}
