import type { Config } from "../config.ts";
import type { Json } from "./json.ts";
import { sidecarCluster } from "./sidecar-cluster.ts";
import { clusterName, upstreamCluster } from "./upstream-cluster.ts";

/**
 * Every cluster of a configuration: the sidecar's two doors, the traces' collector, and one per route.
 *
 * @param before whose listener a running Envoy may still have: its routes' upstreams stay.
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
