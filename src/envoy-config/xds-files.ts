import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Config } from "../config/config.ts";
import { envoyBootstrap, renderYaml } from "./bootstrap.ts";
import { listeners, routeConfigurations } from "./listener.ts";
import { typeUrl } from "./proto-json.ts";
import { clusters } from "./sidecar-cluster.ts";

/**
 * Writes `cds.yaml`, `rds.yaml`, `lds.yaml` and `bootstrap.yaml` into `folder`, which is created if missing. Each file is replaced
 * by rename, so that a running Envoy never reads an incomplete file. If they contain a secret, only this user can read them, and
 * Envoy must run as the same user. Clusters come first: a route must not name a missing cluster. A change of routes leaves
 * `lds.yaml` unchanged: Envoy closes the connections of a replaced listener, including event streams.
 *
 * @param before the previous configuration: its clusters stay until the next write.
 * @throws file system errors.
 */
export function writeXdsDir(config: Config, folder: string, before?: Config): readonly string[] {
  const xdsDir = resolve(folder);
  const mode = config.listen.envoySecrets.length > 0 ? 0o600 : 0o644;
  mkdirSync(xdsDir, { recursive: true });
  const files = {
    "cds.yaml": {
      resources: clusters(config, before).map((cluster) => ({
        "@type": typeUrl("config.cluster.v3.Cluster"),
        ...(typeof cluster === "object" ? cluster : {}),
      })),
    },
    "rds.yaml": {
      resources: routeConfigurations(config).map(({ routes }) => ({
        "@type": typeUrl("config.route.v3.RouteConfiguration"),
        ...routes,
      })),
    },
    "lds.yaml": {
      resources: listeners(config, xdsDir).map((listener) => ({
        "@type": typeUrl("config.listener.v3.Listener"),
        ...listener,
      })),
    },
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
