import type { Config } from "./config.ts";
import { formatProblem } from "./format-problem.ts";
import { loadConfig } from "./load-config.ts";

/**
 * The command `check-config` (F1.5): prints every problem of the file at once, to `err`.
 * @returns the exit code: 1 when there is an error, 0 when there are only warnings or none.
 */
export function checkConfig(options: {
  readonly file: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** What upper floors say of a file that is good otherwise (policies that do less than they seem to). */
  readonly moreWarnings?: (
    config: Config,
  ) => readonly { readonly routeId?: string; readonly message: string }[];
}): number {
  const { file, env, out, err } = options;
  const loaded = loadConfig(file, env, { listeners: {} });
  for (const problem of loaded.problems) err(`${formatProblem(problem)}\n`);
  const more = (loaded.ok && options.moreWarnings?.(loaded.config)) || [];
  for (const { routeId, message } of more)
    err(`${file}: warning: ${routeId === undefined ? "policy" : `route ${routeId}`}: ${message}\n`);
  const warnings = more.length + loaded.problems.filter(({ severity }) => severity === "warning").length;
  if (loaded.ok) {
    const routes = loaded.config.routes.length;
    out(
      `${file}: ${routes} route${routes === 1 ? "" : "s"}, no errors${warnings === 0 ? "" : `, ${warnings} warnings`}\n`,
    );
    return 0;
  }
  err(`${file}: ${loaded.problems.length - warnings} errors, ${warnings} warnings\n`);
  return 1;
}
