import { join } from "node:path";
import type { Config } from "../config/config.ts";
import type { Route } from "../model/route.ts";
import { clusters } from "./clusters.ts";
import { type ListenerSources, listeners, routeConfigurations } from "./listener.ts";
import { type Json, typeUrl } from "./proto-json.ts";

/** The resources that Envoy takes from elsewhere than its bootstrap: CDS, RDS and LDS. */
export type XdsType = "clusters" | "routes" | "listeners";

/** The `@type` of their messages. */
export const xdsTypeUrls: Readonly<Record<XdsType, string>> = {
  clusters: typeUrl("config.cluster.v3.Cluster"),
  routes: typeUrl("config.route.v3.RouteConfiguration"),
  listeners: typeUrl("config.listener.v3.Listener"),
};

/** A resource with its `@type` and its name. */
export type XdsResource = { readonly [key: string]: Json };

/**
 * What Envoy takes over from a configuration while it runs. The resources name the files of certificates and private keys, which
 * Envoy reads from its own disk. They contain one secret: `listen.envoy_secret`, if Envoy calls the sidecar over TCP.
 *
 * @param sources where the listeners get their routes and their certificate from.
 * @param before routes that a running Envoy may still use: their clusters stay.
 */
export function xdsResources(
  config: Config,
  sources: ListenerSources,
  before?: readonly Route[],
): Readonly<Record<XdsType, readonly XdsResource[]>> {
  const typed = (type: XdsType, resources: readonly XdsResource[]) =>
    resources.map((resource) => ({ "@type": xdsTypeUrls[type], ...resource }));
  return {
    clusters: typed("clusters", clusters(config, before)),
    routes: typed(
      "routes",
      routeConfigurations(config).map(({ routes }) => routes),
    ),
    listeners: typed("listeners", listeners(config, sources)),
  };
}

/** A file that Envoy watches; it must be replaced by rename. */
export function watchedFile(folder: string, file: string): Json {
  return {
    resource_api_version: "V3",
    path_config_source: { path: join(folder, file), watched_directory: { path: folder } },
  };
}
