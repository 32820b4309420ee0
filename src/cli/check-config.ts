import type { Config } from "../config/config.ts";
import { loadConfig } from "../config/load-config.ts";
import { formatProblem } from "../config/problems.ts";
import { counted } from "../util/counted.ts";

/**
 * The command `check-config`: prints every problem of the file at once, to `err`; if a value is invalid, those of single values first.
 * @returns the exit code: 1 if there is an error, 0 otherwise.
 */
export function checkConfig(options: {
  readonly file: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Warnings of other modules about a valid file (policies that do less than they seem to). */
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
  const headers = loaded.ok ? headersNoLongerPass(loaded.config) : undefined;
  if (headers !== undefined) err(`${file}: warning: ${headers}\n`);
  const warnings =
    more.length +
    Number(headers !== undefined) +
    loaded.problems.filter(({ severity }) => severity === "warning").length;
  if (loaded.ok) {
    const routes = loaded.config.routes.length;
    out(
      `${file}: ${counted(routes, "route")}, no errors${warnings === 0 ? "" : `, ${counted(warnings, "warning")}`}\n`,
    );
    return 0;
  }
  const later = loaded.unfinished
    ? "; run check-config again when these are fixed: it then checks how settings go together"
    : "";
  err(
    `${file}: ${counted(loaded.problems.length - warnings, "error")}, ${counted(warnings, "warning")}${later}\n`,
  );
  return 1;
}

/** For upgrades from versions without this list; `request_headers: {}` acknowledges it. */
function headersNoLongerPass(config: Config): string | undefined {
  const ids = config.routes
    .filter(({ mcp }) => mcp.kind === "server" && !mcp.requestHeaders.given && mcp.aggregate === undefined)
    .map(({ id }) => id);
  if (ids.length === 0) return undefined;
  const some = ids.length > 5 ? `${ids.slice(0, 5).join(", ")} and ${ids.length - 5} more` : ids.join(", ");
  return (
    `MCP servers get only the request headers of MCP, HTTP and tracing (${some}); ` +
    "list others in mcp.server.request_headers: {pass: [...]}, or set request_headers: {}"
  );
}
