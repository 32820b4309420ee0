import { clusterDefaults } from "./cluster-defaults.ts";
import { envoyAddress } from "./envoy-address.ts";
import type { Json } from "./json.ts";
import { typeUrl } from "./type-url.ts";

/** A door of ours, at one or several addresses (`host:port` or `unix:/path`): gRPC over HTTP/2, or HTTP/1.1. */
export function sidecarCluster(name: string, addresses: readonly string[], grpc: boolean): Json {
  const hosts = addresses.map((address) =>
    address.startsWith("unix:") ? address : address.slice(0, address.lastIndexOf(":")),
  );
  const http2 = {
    http2_protocol_options: {
      max_concurrent_streams: 1000,
      initial_stream_window_size: 1024 * 1024,
      initial_connection_window_size: 16 * 1024 * 1024,
      // A replica that vanished without a word is noticed within half a minute.
      connection_keepalive: { interval: "20s", timeout: "5s" },
    },
  };
  return {
    name,
    ...clusterDefaults(hosts),
    connect_timeout: "1s",
    load_assignment: {
      cluster_name: name,
      endpoints: [
        { lb_endpoints: addresses.map((address) => ({ endpoint: { address: envoyAddress(address) } })) },
      ],
    },
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": typeUrl("extensions.upstreams.http.v3.HttpProtocolOptions"),
        explicit_http_config: grpc ? http2 : { http_protocol_options: {} },
      },
    },
  };
}
