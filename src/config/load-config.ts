import { AsyncLocalStorage } from "node:async_hooks";
import { readFileSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { setImmediate } from "node:timers/promises";
import type { Route } from "../model/route.ts";
import { serviceAccountId } from "../model/subject.ts";
import { checkAdminTokens, readAdminPolicies } from "./admin-access.ts";
import { buildConfig, checkEgressProxies } from "./build-config.ts";
import { checkAggregation } from "./check-aggregation.ts";
import { checkConflicts, checkSharedSecrets } from "./check-conflicts.ts";
import { checkIdentities } from "./check-identities.ts";
import { claimHeaders } from "./claim-headers.ts";
import type { Config, RouteDefaults } from "./config.ts";
import { configSchema } from "./config-schema.ts";
import { checkDatabase } from "./database.ts";
import { createFields, type FieldContext } from "./field-types.ts";
import { checkFleet } from "./fleet.ts";
import { checkPlainListeners, listenerFaults } from "./listeners.ts";
import { parsePolicy } from "./parse-policy.ts";
import { adoptPomeriumKeys } from "./pomerium.ts";
import type { Problem } from "./problems.ts";
import { type ReferencedFile, readNoFile, readReferencedFile } from "./referenced-files.ts";
import { createReporter, type Reporter, reportIssues } from "./reporter.ts";
import { routeSchema } from "./route-schema.ts";
import { signInRedirectUri } from "./sign-in-providers.ts";
import { readRoute } from "./stored-routes.ts";
import { type AskedWorkers, checkWorkers } from "./workers.ts";
import { type ConfigPath, configSource } from "./yaml-source.ts";

/** A loaded file, or all its problems. */
export type LoadedConfig =
  | {
      readonly ok: true;
      readonly config: Config;
      /** Warnings only. */
      readonly problems: readonly Problem[];
      /** The secrets it refers to; they are watched like the file itself. */
      readonly files: ReferencedFiles;
      readonly parsed: ParsedFile;
    }
  | {
      readonly ok: false;
      readonly problems: readonly Problem[];
      readonly files: ReferencedFiles;
      /** Whether a value is invalid, so that it was not checked how the settings go together. */
      readonly unfinished?: boolean;
    };

/** What a file refers to, by absolute path. */
export type ReferencedFiles = ReadonlyMap<string, ReferencedFile>;

/** What `buildChecked` makes the configuration of, on another thread, too: a `Config` cannot be passed between threads. */
export interface ParsedFile {
  /** The parsed YAML. */
  readonly value: unknown;
  readonly worldReadable: boolean;
}

/** The file being read. The schemas are created once, because that takes longer than the rest of loading, and read this while parsing. */
const reading = new AsyncLocalStorage<FieldContext>();
const fields = createFields({
  get folder() {
    return current().folder;
  },
  get env() {
    return current().env;
  },
  get worldReadable() {
    return current().worldReadable;
  },
  readFile: (path) => current().readFile(path),
});
const topSchema = configSchema(fields);
const entrySchema = routeSchema(fields);

function current(): FieldContext {
  const context = reading.getStore();
  if (context === undefined) throw new Error("a value of the routes file was parsed outside loadConfig");
  return context;
}

export interface LoadOptions {
  readonly listeners?: { readonly grpc?: string; readonly http?: string };
  readonly workers?: AskedWorkers;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads and validates the routes file and fills in defaults. Reports all problems at once, each with its position and fix.
 * `DATABASE_URL` and `DATABASE_LISTEN_URL` of `env` override the file. Never throws: an unreadable file is a problem too.
 *
 * @param options.listeners also checks that peers authenticate, for commands that open listeners or configure Envoy; the addresses
 *   override those of the file.
 * @param options.workers overrides `workers` of the file
 */
export function loadConfig(file: string, env: Environment, options: LoadOptions = {}): LoadedConfig {
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
      fix: "name a file that this process can read with --config, or in ENVOY_MCP_AUTH_CONFIG",
    };
    return { ok: false, problems: [problem], files: new Map(), unfinished: true };
  }
  const source = configSource(file, text);
  const reporter = createReporter(file, source);
  const files = new Map<string, ReferencedFile>();
  const context = { folder: dirname(absolute), env, worldReadable, readFile: once(files) };
  const config =
    source.value === undefined
      ? undefined
      : reading.run(context, () => readConfig(absolute, source.value, { ...context, ...options }, reporter));
  if (config && options.listeners) {
    const { grpc = config.listen.grpc, http = config.listen.http } = options.listeners;
    for (const { severity, path, message, fix } of listenerFaults({ ...config.listen, grpc, http }))
      if (severity === "error") reporter.error(path, message, fix);
      else reporter.warn(path, message, fix);
  }
  const problems = reporter.problems();
  return config === undefined || problems.some(({ severity }) => severity === "error")
    ? { ok: false, problems, files, unfinished: config === undefined }
    : { ok: true, config, problems, files, parsed: { value: source.value, worldReadable } };
}

/** Reads each file once, so that all settings see the same content. */
function once(files: Map<string, ReferencedFile>): FieldContext["readFile"] {
  return (path) => {
    const file = files.get(path) ?? readReferencedFile(path);
    files.set(path, file);
    return file;
  };
}

/** How long a part of `buildChecked` may hold up the event loop, ms. */
const stepMs = 5;

/**
 * The configuration of a file in which `loadConfig` has found no errors, built in short steps and without checking it again.
 * @param given what `loadConfig` was given and has found
 */
export async function buildChecked(given: {
  readonly file: string;
  readonly env: Environment;
  readonly options: LoadOptions;
  readonly parsed: ParsedFile;
  readonly files: ReferencedFiles;
}): Promise<Config> {
  const { file, env, options, files } = given;
  const { value, worldReadable } = given.parsed;
  const absolute = resolve(file);
  // Its problems are those of `loadConfig`, which knows their positions.
  const reporter = createReporter(file, {
    value,
    syntaxProblems: [],
    position: () => ({ line: 1, column: 1 }),
  });
  // Those that the checks have seen, even if they have changed since.
  const readFile = (path: string) => files.get(path) ?? readNoFile();
  const context = { folder: dirname(absolute), env, worldReadable, readFile };
  const config = await reading.run(context, async () => {
    const steps = readInSteps(absolute, value, { ...context, ...options }, reporter);
    let pauseAt = performance.now() + stepMs;
    let step = steps.next();
    for (; !step.done; step = steps.next()) {
      if (performance.now() < pauseAt) continue;
      await setImmediate();
      pauseAt = performance.now() + stepMs;
    }
    return step.value?.config;
  });
  const error = reporter.problems().find(({ severity }) => severity === "error");
  if (error || !config) throw new Error(`the file was checked, but cannot be built: ${error?.message}`);
  return config;
}

function readConfig(
  file: string,
  value: unknown,
  context: FieldContext & LoadOptions,
  reporter: Reporter,
): Config | undefined {
  const steps = readInSteps(file, value, context, reporter);
  let step = steps.next();
  while (!step.done) step = steps.next();
  step.value?.check();
  return step.value?.config;
}

/** Reads the values of a file, a route a step. @returns the configuration, and what checks how its parts go together */
function* readInSteps(
  file: string,
  value: unknown,
  context: FieldContext & LoadOptions,
  reporter: Reporter,
): Generator<void, { readonly config: Config; readonly check: () => void } | undefined> {
  if (!isMapping(value)) {
    reporter.error([], "the file is not a mapping", "write issuer: and routes: at its top level");
    return undefined;
  }
  const { routes: entries, policy, ...rest } = value;
  const adopted = adoptPomeriumKeys(rest, reporter);
  const top = reportIssues(topSchema, adopted, [], reporter);
  const sharedPolicy = policy === undefined ? undefined : readSharedPolicy(policy, reporter);
  const globalClaims = claimHeaders(top?.jwt_claims_headers);
  const adminPolicies = readAdminPolicies(adopted.admin_api, reporter);
  const routes: { route: Route; path: ConfigPath }[] = [];
  // An empty list is valid: all routes are in the database.
  if (!Array.isArray(entries)) {
    reporter.error(
      ["routes"],
      "there are no routes",
      "write routes: followed by - from: https://... entries",
      "key",
    );
  } else {
    const defaults: RouteDefaults = {
      passIdentityHeaders: top?.pass_identity_headers ?? true,
      claimHeaders: globalClaims,
      policy: sharedPolicy,
    };
    for (const [index, entry] of entries.entries()) {
      yield;
      const path = ["routes", index];
      if (!isMapping(entry)) {
        reporter.error(path, "a route must be a mapping", "write from:, to:, policy: and mcp: under it");
        continue;
      }
      if (!("mcp" in entry)) {
        reporter.error(
          [...path, "from"],
          "the route is not an MCP route",
          "add mcp: {server: {}} or mcp: {client: {}}",
        );
      }
      const route = readRoute(entry, path, { schema: entrySchema, defaults }, reporter);
      if (route !== undefined) routes.push({ route, path });
    }
  }
  if (top === undefined) return undefined;
  const config = buildConfig(
    file,
    top,
    context.env,
    { policy: sharedPolicy, admin: adminPolicies },
    routes.map(({ route }) => route),
    context.workers,
  );
  const check = () => {
    checkWorkers(config, context.listeners ?? {}, reporter);
    checkDatabase(config, reporter);
    const issuers = config.signIn.providers.map(({ issuer: url }, index) => ({
      url,
      path: ["sign_in", "providers", index, "issuer"],
    }));
    const upstreams = routes.flatMap(({ route, path }) =>
      route.to.map((url) => ({ url, path: [...path, "to"] })),
    );
    checkEgressProxies(config.upstreamOAuth.proxies, [...issuers, ...upstreams], reporter);
    checkPlainListeners(config, top.envoy.tls, reporter);
    checkFleet(config, reporter);
    checkAggregation(config, reporter);
    checkConflicts(config, routes, reporter);
    checkSharedSecrets({ ...adopted, routes: entries }, reporter);
    checkIssuers(config, reporter);
    checkAdminTokens(config.adminApi, reporter);
    checkIdentities(config, reporter);
  };
  return { config, check };
}

function readSharedPolicy(policy: unknown, reporter: Reporter) {
  const routesInside = Array.isArray(policy) && policy.some((entry) => isMapping(entry) && "from" in entry);
  if (!routesInside) return parsePolicy(policy, ["policy"], reporter);
  reporter.error(
    ["policy"],
    "these are routes, under Pomerium's old key",
    "rename policy: to routes:",
    "key",
  );
  return undefined;
}

/** Checks that users can sign in, and that ids of providers and issuers do not collide. */
function checkIssuers(config: Config, reporter: Reporter): void {
  const { signIn, externalTokens } = config;
  const issuers = [
    ...signIn.providers.map((one, index) => ({ ...one, path: ["sign_in", "providers", index] })),
    ...externalTokens.trustedIssuers.map((one, index) => ({
      ...one,
      path: ["external_tokens", "trusted_issuers", index],
    })),
  ];
  if (issuers.length === 0) {
    reporter.warn(
      ["sign_in"],
      "there is no OpenID provider: nobody can sign in",
      "add sign_in.providers",
      "key",
    );
  }
  for (const { id, issuer, path } of issuers) {
    if (id === serviceAccountId) {
      reporter.error(
        [...path, "id"],
        `the id ${id} is reserved: its users would be treated as service accounts`,
        "give it another id",
      );
    }
    if (new URL(issuer).href === new URL(config.issuer).href) {
      reporter.error(
        [...path, "issuer"],
        "this is the gateway's own issuer, which trusts its own tokens and cannot sign users in",
        "name another issuer, or remove the entry",
      );
    }
  }
  // With several providers, the redirect URI identifies the provider that responds.
  for (const [index, provider] of signIn.providers.entries()) {
    if (signIn.providers.length === 1) break;
    reporter.warn(
      ["sign_in", "providers", index],
      `there are several providers, so ${provider.id} has its own redirect URI: the one without an id is no longer used`,
      `register exactly ${signInRedirectUri(config, provider)} at ${provider.issuer}, if it is not registered yet`,
    );
  }
  const twice = issuers.find(({ id }, index) => issuers.findIndex((other) => other.id === id) !== index);
  if (twice !== undefined) {
    reporter.error(
      ["sign_in", "providers"],
      `the id ${twice.id} is used by two issuers`,
      "give each provider and trusted issuer a different id",
      "key",
    );
  }
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
