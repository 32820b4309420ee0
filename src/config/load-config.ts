import { readFileSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { adoptPomeriumKeys } from "./adopt-pomerium-keys.ts";
import { buildConfig } from "./build-config.ts";
import { buildRoute } from "./build-route.ts";
import type { Config } from "./config.ts";
import { configSchema } from "./config-schema.ts";
import { type ConfigPath, configSource } from "./config-source.ts";
import { createFields } from "./create-fields.ts";
import { dropPomeriumKeys } from "./drop-pomerium-keys.ts";
import { ownPaths } from "./own-paths.ts";
import { parsePolicy } from "./parse-policy.ts";
import type { Problem } from "./problem.ts";
import { readFrom } from "./read-from.ts";
import { reportIssues } from "./report-issues.ts";
import { createReporter, type Reporter } from "./reporter.ts";
import type { Route } from "./route.ts";
import { routeSchema } from "./route-schema.ts";

/** A loaded file, or everything that is wrong with it. */
export type LoadedConfig =
  | {
      readonly ok: true;
      readonly config: Config;
      /** Warnings only. */
      readonly problems: readonly Problem[];
      /** Absolute paths of the secrets it refers to; a change of one is a change of the file. */
      readonly referencedFiles: readonly string[];
    }
  | {
      readonly ok: false;
      readonly problems: readonly Problem[];
      readonly referencedFiles: readonly string[];
    };

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads, checks and completes the routes file (F1.1 to F1.5). All problems are found at once, each with its place and its fix.
 * `DATABASE_URL` and `DATABASE_LISTEN_URL` of `env` win over the file. Throws nothing: an unreadable file is a problem too.
 */
export function loadConfig(file: string, env: Environment): LoadedConfig {
  const absolute = resolve(file);
  let text: string;
  let worldReadable: boolean;
  try {
    text = readFileSync(absolute, "utf8");
    worldReadable = (statSync(absolute).mode & 0o004) !== 0;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unreadable";
    const problem: Problem = {
      severity: "error",
      file,
      line: 1,
      column: 1,
      path: "",
      message: `the file cannot be read (${code})`,
      fix: "name an existing file that this process may read",
    };
    return { ok: false, problems: [problem], referencedFiles: [] };
  }
  const source = configSource(file, text);
  const reporter = createReporter(file, source);
  const context = { folder: dirname(absolute), env, worldReadable, referencedFiles: new Set<string>() };
  const config =
    source.value === undefined ? undefined : readConfig(absolute, source.value, context, reporter);
  const problems = reporter.problems();
  const referencedFiles = [...context.referencedFiles];
  return config === undefined || problems.some(({ severity }) => severity === "error")
    ? { ok: false, problems, referencedFiles }
    : { ok: true, config, problems, referencedFiles };
}

function readConfig(
  file: string,
  value: unknown,
  context: Parameters<typeof createFields>[0],
  reporter: Reporter,
): Config | undefined {
  if (!isMapping(value)) {
    reporter.error([], "the file is not a mapping", "write issuer: and routes: at its top level");
    return undefined;
  }
  const { routes: entries, policy, ...rest } = value;
  const fields = createFields(context);
  const top = reportIssues(configSchema(fields), adoptPomeriumKeys(rest, reporter), [], reporter);
  const sharedPolicy = policy === undefined ? undefined : readSharedPolicy(policy, reporter);
  const schema = routeSchema(fields);
  const routes: { route: Route; path: ConfigPath }[] = [];
  if (!Array.isArray(entries) || entries.length === 0) {
    reporter.error(
      ["routes"],
      "there are no routes",
      "write routes: followed by - from: https://... entries",
      "key",
    );
  } else {
    const defaults = { passIdentityHeaders: top?.pass_identity_headers ?? true, policy: sharedPolicy };
    for (const [index, entry] of entries.entries()) {
      const path = ["routes", index];
      if (!isMapping(entry)) {
        reporter.error(path, "a route is a mapping", "write from:, to:, policy: and mcp: under it");
        continue;
      }
      if (!("mcp" in entry)) {
        reporter.error(
          [...path, "from"],
          "the route is no MCP route",
          "add mcp: {server: {}} or mcp: {client: {}}",
        );
      }
      const { policy: ownPolicy, ...others } = dropPomeriumKeys("route", entry, path, reporter);
      const input = reportIssues(schema, others, path, reporter);
      // Read whether or not the rest is good, so that all problems are told at once.
      const from =
        typeof others.from === "string"
          ? readFrom({ from: others.from, prefix: text(others.prefix) }, path, reporter)
          : undefined;
      const parsed =
        ownPolicy === undefined ? undefined : parsePolicy(ownPolicy, [...path, "policy"], reporter);
      if (input === undefined || from === undefined || (ownPolicy !== undefined && parsed === undefined))
        continue;
      const route = buildRoute(input, path, reporter, { from, policy: parsed, defaults });
      if (route !== undefined) routes.push({ route, path });
    }
  }
  if (top === undefined) return undefined;
  const config = buildConfig(
    file,
    top,
    context.env,
    sharedPolicy,
    routes.map(({ route }) => route),
  );
  checkTogether(config, routes, reporter);
  return config;
}

function readSharedPolicy(policy: unknown, reporter: Reporter) {
  const routesInside = Array.isArray(policy) && policy.some((entry) => isMapping(entry) && "from" in entry);
  if (!routesInside) return parsePolicy(policy, ["policy"], reporter);
  reporter.error(
    ["policy"],
    "these are routes: Pomerium's old name for them",
    "rename policy: to routes:",
    "key",
  );
  return undefined;
}

/** What only shows when all routes are seen together. */
function checkTogether(
  config: Config,
  routes: readonly { route: Route; path: ConfigPath }[],
  reporter: Reporter,
): void {
  const places = new Map<string, ConfigPath>();
  const ids = new Map<string, ConfigPath>();
  const issuerHost = new URL(config.issuer).host;
  for (const { route, path } of routes) {
    const place = route.host + route.prefix;
    const other = places.get(place);
    if (other !== undefined) {
      reporter.error(
        [...path, "from"],
        `${route.resource} is already claimed by ${other[0]}[${other[1]}]`,
        "give one of them another host or path, or list both upstreams in one `to`",
      );
    } else places.set(place, path);
    const namesake = ids.get(route.id);
    if (namesake !== undefined && other === undefined) {
      reporter.error(
        [...path, "id"],
        `the id ${route.id} is taken by ${namesake[0]}[${namesake[1]}]`,
        "give it another id",
      );
    } else ids.set(route.id, path);
    const own = ownPaths(config, { issuer: route.host === issuerHost, route: true }).find(
      (entry) => route.prefix === entry.path || route.prefix.startsWith(`${entry.path}/`),
    );
    if (own !== undefined) {
      reporter.error(
        [...path, "from"],
        `${own.path} is answered by us on this host`,
        "give the route another path",
      );
    }
  }
  for (const { route, path } of routes) {
    if (route.mcp.kind !== "client") continue;
    for (const [index, name] of (route.mcp.routes ?? []).entries()) {
      const found = routes.some(
        ({ route: server }) => server.id === name || server.resource === name.replace(/\/$/, ""),
      );
      if (!found) {
        reporter.error(
          [...path, "mcp", "client", "routes", index],
          `no route ${name}`,
          "write the id or `from` of an MCP route",
        );
      }
    }
  }
  if (config.signIn.providers.length === 0 && config.externalTokens.trustedIssuers.length === 0) {
    reporter.warn(
      ["sign_in"],
      "there is no OpenID provider: nobody can sign in",
      "add sign_in.providers",
      "key",
    );
  }
  const issuers = [...config.signIn.providers, ...config.externalTokens.trustedIssuers];
  const twice = issuers.find(({ id }, index) => issuers.findIndex((other) => other.id === id) !== index);
  if (twice !== undefined) {
    reporter.error(
      ["sign_in", "providers"],
      `the id ${twice.id} names two issuers of people`,
      "give each provider and trusted issuer an id of its own",
      "key",
    );
  }
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
