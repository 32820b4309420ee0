import { stringify } from "yaml";
import type { Config } from "../config/config.ts";
import { listeners, watchedFile } from "./listener.ts";
import { layeredRuntime, overloadManager } from "./overload-manager.ts";
import { envoyAddress, type Json } from "./proto-json.ts";
import { clusters } from "./sidecar-cluster.ts";

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

/** YAML that Envoy reads as meant: its parser follows YAML 1.1, to which a bare `y` or `on` is a boolean, so every string is quoted. */
export function renderYaml(value: Json): string {
  return stringify(value, {
    aliasDuplicateObjects: false,
    defaultKeyType: "PLAIN",
    defaultStringType: "QUOTE_DOUBLE",
    version: "1.1",
  });
}
