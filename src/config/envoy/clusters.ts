import type { Config } from "../config.ts";
import type { Json } from "./json.ts";
import { sidecarCluster } from "./sidecar-cluster.ts";
import { upstreamCluster } from "./upstream-cluster.ts";

/** Every cluster of a configuration: the sidecar's two doors, the traces' collector, and one per route. */
export function clusters(config: Config): Json[] {
  return [
    sidecarCluster("sidecar_grpc", config.envoy.sidecar.grpc, true, config.envoy.sidecar.grpcTls),
    sidecarCluster("sidecar_http", config.envoy.sidecar.http, false),
    ...(config.envoy.tracing
      ? [sidecarCluster("otlp_collector", [config.envoy.tracing.collector], true)]
      : []),
    ...config.routes.map((route) => upstreamCluster(route, config.envoy.upstreamCa)),
  ];
}
