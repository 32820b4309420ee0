import { loadConfig } from "../config/load-config.ts";
import { formatProblem } from "../config/problems.ts";
import { envoyBootstrap, renderYaml, writeXdsDir } from "../envoy-config/bootstrap.ts";
import { checkContext } from "../envoy-config/routes.ts";

/**
 * The command `envoy-config`: prints an Envoy bootstrap to `out`, or writes the files of `xdsDir`. Problems go to `err`.
 * @returns the exit code: 1 if the routes file has errors or a file cannot be written.
 */
export function envoyConfig(options: {
  readonly file: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** `context`: the `context_extensions` of each route, for an Envoy that is configured by other means. */
  readonly format: "yaml" | "json" | "context";
  /** The directory as Envoy sees it. */
  readonly xdsDir?: string;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}): number {
  const { file, env, format, xdsDir, out, err } = options;
  const loaded = loadConfig(file, env, { listeners: {} });
  for (const problem of loaded.problems) err(`${formatProblem(problem)}\n`);
  if (!loaded.ok) return 1;
  if (format === "context") {
    out(renderYaml(Object.fromEntries(loaded.config.routes.map((route) => [route.id, checkContext(route)]))));
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
