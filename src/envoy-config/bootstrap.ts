import { accessSync, constants, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { stringify } from "yaml";
import type { Config } from "../config/config.ts";
import { thisUser, UnusableSetting } from "../util/unusable-setting.ts";
import { clusters } from "./clusters.ts";
import { listenerCertificate, listeners } from "./listener.ts";
import { envoyAddress, type Json, typeUrl } from "./proto-json.ts";
import { watchedFile, xdsResources } from "./xds-resources.ts";

const heap = "envoy.resource_monitors.fixed_heap";
const connections = "envoy.resource_monitors.global_downstream_max_connections";

/**
 * What Envoy does as its heap approaches `maxHeapBytes`, before the kernel kills it: it first shortens timeouts, then resets the
 * streams that use the most memory, then stops accepting requests. Also limits the number of connections.
 */
export function overloadManager({
  maxHeapBytes,
  maxConnections,
}: Pick<Config["envoy"], "maxHeapBytes" | "maxConnections">): Json {
  return {
    refresh_interval: "0.25s",
    // Streams that use 128 KiB or more are tracked, so that the largest can be reset.
    buffer_factory_config: { minimum_account_to_track_power_of_two: 17 },
    resource_monitors: [
      {
        name: heap,
        typed_config: {
          "@type": typeUrl("extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"),
          max_heap_size_bytes: maxHeapBytes,
        },
      },
      {
        name: connections,
        typed_config: {
          "@type": typeUrl(
            "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
          ),
          max_active_downstream_connections: maxConnections,
        },
      },
    ],
    actions: [
      {
        name: "envoy.overload_actions.reduce_timeouts",
        triggers: [scaled(0.75, 0.9)],
        typed_config: {
          "@type": typeUrl("config.overload.v3.ScaleTimersOverloadActionConfig"),
          timer_scale_factors: [
            { timer: "HTTP_DOWNSTREAM_CONNECTION_IDLE", min_timeout: "2s" },
            { timer: "TRANSPORT_SOCKET_CONNECT", min_timeout: "2s" },
          ],
        },
      },
      { name: "envoy.overload_actions.shrink_heap", triggers: [threshold(0.85)] },
      { name: "envoy.overload_actions.reset_high_memory_stream", triggers: [scaled(0.85, 0.95)] },
      { name: "envoy.overload_actions.disable_http_keepalive", triggers: [threshold(0.92)] },
      { name: "envoy.overload_actions.stop_accepting_requests", triggers: [threshold(0.95)] },
      { name: "envoy.overload_actions.stop_accepting_connections", triggers: [threshold(0.95)] },
    ],
    // Envoy resets streams when the pressure changes, not while it stays high: as a last resort, connections are closed.
    loadshed_points: [
      { name: "envoy.load_shed_points.http1_server_abort_dispatch", triggers: [threshold(0.98)] },
      {
        name: "envoy.load_shed_points.http2_server_go_away_and_close_on_dispatch",
        triggers: [threshold(0.98)],
      },
    ],
  };
}

/** A burst of requests on one connection is processed one request per cycle, interleaved with other connections. */
export const layeredRuntime: Json = {
  layers: [{ name: "limits", static_layer: { "http.max_requests_per_io_cycle": 1 } }],
};

function threshold(value: number): Json {
  return { name: heap, threshold: { value } };
}

function scaled(from: number, to: number): Json {
  return { name: heap, scaled: { scaling_threshold: from, saturation_threshold: to } };
}

/**
 * A complete Envoy bootstrap. With `xdsDir`, Envoy reads listeners, clusters and routes from `lds.yaml`, `cds.yaml` and `rds.yaml`
 * in that directory, and watches these files.
 */
export function envoyBootstrap(config: Config, { xdsDir }: { readonly xdsDir?: string } = {}): Json {
  return {
    ...bootstrapBase(config),
    ...(xdsDir === undefined
      ? { static_resources: { listeners: listeners(config), clusters: clusters(config) } }
      : {
          dynamic_resources: {
            lds_config: watchedFile(xdsDir, "lds.yaml"),
            cds_config: watchedFile(xdsDir, "cds.yaml"),
          },
        }),
  };
}

/** A bootstrap without listeners and clusters. */
export function bootstrapBase(config: Config): { readonly [key: string]: Json } {
  return {
    node: { id: "envoy-mcp-auth", cluster: "envoy-mcp-auth" },
    ...(config.envoy.admin === undefined ? {} : { admin: { address: envoyAddress(config.envoy.admin) } }),
    overload_manager: overloadManager(config.envoy),
    layered_runtime: layeredRuntime,
  };
}

/** Quotes every string: Envoy's parser follows YAML 1.1, where a bare `y` or `on` is a boolean. */
export function renderYaml(value: Json): string {
  return stringify(value, {
    aliasDuplicateObjects: false,
    defaultKeyType: "PLAIN",
    defaultStringType: "QUOTE_DOUBLE",
    version: "1.1",
  });
}

/**
 * Writes `cds.yaml`, `rds.yaml` (and one `rds-LISTENER.yaml` for each further listener), `sds.yaml`, `lds.yaml` and `bootstrap.yaml` into
 * `folder`, which is created if missing. Each file is replaced by rename, so that a running Envoy never reads an incomplete file. If they
 * contain a secret, only this user can read them, and Envoy must run as the same user. Clusters come first: a route must not name a
 * missing cluster. A change of routes, and a renewed certificate, leave `lds.yaml` unchanged: Envoy closes the connections of a replaced
 * listener, including event streams.
 *
 * @param before the previous configuration: its clusters stay until the next write.
 * @throws UnusableSetting if the folder cannot be created or written to; other file system errors
 */
export function writeXdsDir(config: Config, folder: string, before?: Config): readonly string[] {
  const xdsDir = resolve(folder);
  makeXdsDir(xdsDir);
  const mode = config.listen.envoySecrets.length > 0 ? 0o600 : 0o644;
  const sources = {
    routes: (name: string) => watchedFile(xdsDir, routesFile(name)),
    certificate: watchedFile(xdsDir, "sds.yaml"),
  };
  const resources = xdsResources(config, sources, before?.routes);
  const files: Readonly<Record<string, Json>> = {
    "cds.yaml": { resources: resources.clusters },
    // Envoy rejects a file with more than one.
    ...Object.fromEntries(
      resources.routes.map((routes) => [routesFile(String(routes.name)), { resources: [routes] }]),
    ),
    "sds.yaml": {
      resources: [
        { "@type": typeUrl("extensions.transport_sockets.tls.v3.Secret"), ...listenerCertificate(config) },
      ],
    },
    "lds.yaml": { resources: resources.listeners },
    "bootstrap.yaml": envoyBootstrap(config, { xdsDir }),
  };
  return Object.entries(files).map(([name, content]) => {
    const file = join(xdsDir, name);
    const temporary = join(xdsDir, `.${name}.${process.pid}`);
    // A leftover file of an earlier run would keep its permissions.
    rmSync(temporary, { force: true });
    writeFileSync(temporary, renderYaml(content), { mode });
    renameSync(temporary, file);
    return file;
  });
}

/** One for each listener: `rds.yaml`, and `rds-LISTENER.yaml` for those beside the https listener. */
function routesFile(routeConfiguration: string): string {
  return routeConfiguration === "mcp"
    ? "rds.yaml"
    : `rds-${routeConfiguration.replace(/[^A-Za-z0-9.-]+/g, "-")}.yaml`;
}

function makeXdsDir(xdsDir: string): void {
  try {
    mkdirSync(xdsDir, { recursive: true });
    accessSync(xdsDir, constants.W_OK | constants.X_OK);
  } catch (error) {
    const fix = `name a folder that ${thisUser()} can write to`;
    throw new UnusableSetting("--xds-dir", `cannot write to ${xdsDir}`, error, fix);
  }
}
