import type { Config } from "../config.ts";
import { clusters } from "./clusters.ts";
import { envoyAddress } from "./envoy-address.ts";
import type { Json } from "./json.ts";
import { listeners, watchedFile } from "./listener.ts";
import { layeredRuntime, overloadManager } from "./overload-manager.ts";

/**
 * A complete Envoy bootstrap. With `xdsDir`, listeners and clusters are left to the files `lds.yaml` and `cds.yaml` in that folder,
 * which Envoy watches, and the listeners leave their routes to `rds.yaml`.
 */
export function envoyBootstrap(config: Config, options: { readonly xdsDir?: string } = {}): Json {
  const { xdsDir } = options;
  return {
    node: { id: "envoy-mcp-auth", cluster: "envoy-mcp-auth" },
    ...(config.envoy.admin === undefined ? {} : { admin: { address: envoyAddress(config.envoy.admin) } }),
    ...(xdsDir === undefined
      ? { static_resources: { listeners: listeners(config), clusters: clusters(config) } }
      : {
          dynamic_resources: {
            lds_config: watchedFile(xdsDir, "lds.yaml"),
            cds_config: watchedFile(xdsDir, "cds.yaml"),
          },
        }),
    overload_manager: overloadManager(config.envoy),
    layered_runtime: layeredRuntime,
  };
}
