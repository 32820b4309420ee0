import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Config } from "../config/config.ts";
import { envoyBootstrap, renderYaml } from "./bootstrap.ts";
import { listeners, routeConfigurations } from "./listener.ts";
import { typeUrl } from "./proto-json.ts";
import { clusters } from "./sidecar-cluster.ts";

/**
 * Writes `cds.yaml`, `rds.yaml`, `lds.yaml` and `bootstrap.yaml` into `folder` (made when missing), each by rename, so that a
 * running Envoy never reads half a file. With a secret in them they are for this user alone: Envoy has to run as the same one.
 * Clusters go first: a route must not name one that is not there yet. A change of routes leaves `lds.yaml` as it was: Envoy ends
 * the connections of a listener that it replaces, event streams with them.
 *
 * @param before what was written last: its clusters stay until the next time.
 * @throws Error of the file system.
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
    // A file that a run before left behind would keep its permissions.
    rmSync(temporary, { force: true });
    writeFileSync(temporary, renderYaml(content), { mode });
    renameSync(temporary, file);
    return file;
  });
}
