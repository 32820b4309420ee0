import { dirname } from "node:path";
import type { Config } from "../config/config.ts";
import { xdsSecretHeader } from "../config/fleet.ts";
import { bootstrapBase } from "./bootstrap.ts";
import { clusterDefaults, sidecarTls } from "./clusters.ts";
import { envoyAddress, type Json, typeUrl } from "./proto-json.ts";
import { fetchPause, fetchTimeout, healthCheckTimes, sidecarConnectTimeout } from "./timeouts.ts";

const cluster = "xds";
/** Envoy's name of the secret in the credential file. */
const secretName = "xds";

type FleetSettings = NonNullable<Config["envoy"]["sidecar"]["xds"]>;

/** Envoy fetches these resources from the sidecars (`ConfigSource`), and waits for them at startup. */
export const fetched: Json = {
  resource_api_version: "V3",
  initial_fetch_timeout: "0s",
  api_config_source: {
    api_type: "REST",
    transport_api_version: "V3",
    cluster_names: [cluster],
    refresh_delay: fetchPause,
    request_timeout: fetchTimeout,
  },
};

/**
 * The bootstrap of an Envoy that fetches listeners, routes and clusters from the sidecars. It contains no secret and is the same for
 * all Envoys of a fleet; `--service-node` tells them apart.
 */
export function fleetBootstrap(config: Config, settings: FleetSettings): Json {
  return {
    ...bootstrapBase(config),
    dynamic_resources: { lds_config: fetched, cds_config: fetched },
    static_resources: { clusters: [xdsCluster(settings)] },
  };
}

/**
 * The file `envoy.sidecar.xds.credential`: Envoy reads a replaced file without a restart.
 * @param secret the newest of `listen.xds.secret`
 */
export function fleetCredential(secret: string): Json {
  return {
    resources: [
      {
        "@type": typeUrl("extensions.transport_sockets.tls.v3.Secret"),
        name: secretName,
        generic_secret: { secret: { inline_string: secret } },
      },
    ],
  };
}

/** The sidecars' `listen.xds`, in order of preference, so that an Envoy takes all resources from the same one. */
function xdsCluster({ addresses, ca, serverName, credential }: FleetSettings): Json {
  return {
    name: cluster,
    ...clusterDefaults(addresses.map((address) => address.slice(0, address.lastIndexOf(":")))),
    connect_timeout: sidecarConnectTimeout,
    load_assignment: {
      cluster_name: cluster,
      endpoints: addresses.map((address, priority) => ({
        priority,
        lb_endpoints: [{ endpoint: { address: envoyAddress(address) } }],
      })),
    },
    health_checks: [
      {
        ...healthCheckTimes,
        unhealthy_threshold: 1,
        healthy_threshold: 1,
        http_health_check: { host: "health", path: "/readyz" },
      },
    ],
    common_lb_config: { healthy_panic_threshold: { value: 1 }, update_merge_window: "0s" },
    // A request that a hung sidecar holds is repeated elsewhere.
    close_connections_on_host_health_failure: true,
    transport_socket: sidecarTls({ ca, serverName }, []),
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": typeUrl("extensions.upstreams.http.v3.HttpProtocolOptions"),
        explicit_http_config: { http_protocol_options: {} },
        http_filters: [
          credentialFilter(credential),
          {
            name: "envoy.filters.http.upstream_codec",
            typed_config: { "@type": typeUrl("extensions.filters.http.upstream_codec.v3.UpstreamCodec") },
          },
        ],
      },
    },
  };
}

/** Adds the secret of the credential file to every request. */
function credentialFilter(file: string): Json {
  return {
    name: "envoy.filters.http.credential_injector",
    typed_config: {
      "@type": typeUrl("extensions.filters.http.credential_injector.v3.CredentialInjector"),
      overwrite: true,
      credential: {
        name: "envoy.http.injected_credentials.generic",
        typed_config: {
          "@type": typeUrl("extensions.http.injected_credentials.generic.v3.Generic"),
          credential: {
            name: secretName,
            sds_config: { path_config_source: { path: file, watched_directory: { path: dirname(file) } } },
          },
          header: xdsSecretHeader,
        },
      },
    },
  };
}
