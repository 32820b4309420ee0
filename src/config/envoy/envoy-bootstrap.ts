import { join } from "node:path";
import type { Config } from "../config.ts";
import { clusters } from "./clusters.ts";
import { envoyAddress } from "./envoy-address.ts";
import type { Json } from "./json.ts";
import { listener } from "./listener.ts";
import { layeredRuntime, overloadManager } from "./overload-manager.ts";

/**
 * A complete Envoy bootstrap (F1.7). With `xdsDir`, listener and clusters are left to the files `lds.yaml` and `cds.yaml` in
 * that folder, which Envoy watches.
 */
export function envoyBootstrap(config: Config, options: { readonly xdsDir?: string } = {}): Json {
  const { xdsDir } = options;
  const watched = (folder: string, file: string): Json => ({
    resource_api_version: "V3",
    path_config_source: { path: join(folder, file), watched_directory: { path: folder } },
  });
  return {
    node: { id: "envoy-mcp-auth", cluster: "envoy-mcp-auth" },
    ...(config.envoy.admin === undefined ? {} : { admin: { address: envoyAddress(config.envoy.admin) } }),
    ...(xdsDir === undefined
      ? { static_resources: { listeners: [listener(config)], clusters: clusters(config) } }
      : {
          dynamic_resources: {
            lds_config: watched(xdsDir, "lds.yaml"),
            cds_config: watched(xdsDir, "cds.yaml"),
          },
        }),
    overload_manager: overloadManager(config.envoy),
    layered_runtime: layeredRuntime,
  };
}
