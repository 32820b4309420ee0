import { loadConfig } from "../config/load-config.ts";
import { formatProblem } from "../config/problems.ts";
import { envoyBootstrap, renderYaml, writeXdsDir } from "../envoy-config/bootstrap.ts";
import { fleetBootstrap, fleetCredential } from "../envoy-config/fleet-bootstrap.ts";
import { checkContext } from "../envoy-config/routes.ts";

/**
 * The command `envoy-config`: prints an Envoy bootstrap to `out`, or writes the files of `xdsDir`. Problems go to `err`.
 * @returns the exit code: 1 if the routes file has errors or a file cannot be written.
 */
export function envoyConfig(options: {
  readonly file: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /**
   * `context`: the `context_extensions` of each route, for an Envoy that is configured by other means. `xds-bootstrap`,
   * `xds-credential`: the two files of an Envoy that fetches its configuration from `listen.xds`.
   */
  readonly format: "yaml" | "json" | "context" | "xds-bootstrap" | "xds-credential";
  /** The directory as Envoy sees it. */
  readonly xdsDir?: string;
  /** Overrides `workers` of the routes file. */
  readonly workers?: number | "auto";
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}): number {
  const { file, env, format, xdsDir, workers, out, err } = options;
  const loaded = loadConfig(file, env, { listeners: {}, workers });
  for (const problem of loaded.problems) err(`${formatProblem(problem)}\n`);
  if (!loaded.ok) return 1;
  if (format === "context") {
    out(renderYaml(Object.fromEntries(loaded.config.routes.map((route) => [route.id, checkContext(route)]))));
    return 0;
  }
  if (format === "xds-bootstrap" || format === "xds-credential") {
    const { listen, envoy } = loaded.config;
    const [secret] = listen.xds?.secrets ?? [];
    if (secret === undefined || envoy.sidecar.xds === undefined) {
      const missing = secret === undefined ? "listen.xds" : "envoy.sidecar.xds";
      err(`${file}: there is no ${missing}: add it, as docs/fleet.md shows\n`);
      return 1;
    }
    out(
      renderYaml(
        format === "xds-bootstrap"
          ? fleetBootstrap(loaded.config, envoy.sidecar.xds)
          : fleetCredential(secret),
      ),
    );
    return 0;
  }
  if (xdsDir === undefined) {
    const bootstrap = envoyBootstrap(loaded.config);
    out(format === "json" ? `${JSON.stringify(bootstrap, null, 2)}\n` : renderYaml(bootstrap));
    return 0;
  }
  try {
    for (const written of writeXdsDir(loaded.config, xdsDir)) err(`wrote ${written}\n`);
    return 0;
  } catch (error) {
    err(`${error instanceof Error ? error.message : `--xds-dir: cannot write to ${xdsDir}`}\n`);
    return 1;
  }
}
