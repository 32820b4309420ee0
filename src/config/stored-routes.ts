import type { z } from "zod";
import { isLoopbackName } from "../egress/addresses.ts";
import { consentAuth, type Route } from "../model/route.ts";
import { buildRoute } from "./build-route.ts";
import { checkConflicts } from "./check-conflicts.ts";
import type { Config, RouteDefaults } from "./config.ts";
import { literalFields } from "./field-types.ts";
import { parsePolicy } from "./parse-policy.ts";
import { dropPomeriumKeys } from "./pomerium.ts";
import type { Problem } from "./problems.ts";
import { createReporter, type Reporter, reportIssues } from "./reporter.ts";
import { parsePlace, type ReservedRoute, type UnusableReason } from "./reserved-routes.ts";
import { routeSchema } from "./route-schema.ts";
import { trimEntry } from "./trim-entry.ts";
import { type ConfigPath, type ConfigSource, configSource } from "./yaml-source.ts";

/** Parses a route's `from`, and Pomerium's `prefix`. Reports problems. @returns undefined if there are any */
export function readFrom(
  input: { readonly from: string; readonly prefix?: string | undefined },
  path: ConfigPath,
  reporter: Reporter,
): Pick<Route, "origin" | "host" | "prefix"> | undefined {
  const at = [...path, "from"];
  const fail = (message: string, fix: string) => {
    reporter.error(at, message, fix);
    return undefined;
  };
  const url = URL.parse(input.from);
  const example = "write https://host or https://host/path";
  if (input.from.includes("*")) return fail("wildcard hosts are not supported", "write one route per host");
  if (url === null || !/^https?:$/.test(url.protocol)) {
    return fail(`${JSON.stringify(input.from)} is not an https URL`, example);
  }
  if (url.protocol === "http:" && !isLoopbackName(url.hostname)) {
    return fail(
      "http: is for localhost only: tokens would be sent unencrypted",
      `write https://${url.host}${url.pathname.replace(/\/$/, "")}`,
    );
  }
  if (url.username + url.password + url.search + url.hash !== "" || url.hostname.endsWith(".")) {
    return fail("`from` must have no user, query, fragment or trailing dot", example);
  }
  const written = input.prefix ?? url.pathname;
  if (input.prefix !== undefined && url.pathname !== "/") {
    return fail("the path is set in both `from` and `prefix`", "keep the one in `from`");
  }
  const prefix = written.replace(/\/$/, "") || "/";
  if (prefix !== "/" && !/^(\/[A-Za-z0-9._~!$&'()*+,=:@-]+)+$/.test(prefix)) {
    return fail(`${JSON.stringify(written)} is not a path prefix`, "use plain segments: /team/tools");
  }
  return { origin: url.origin, host: url.host, prefix };
}

/** Parses an entry of `routes`. Reports all problems at once. @returns undefined if there are any */
export function readRoute(
  entry: Readonly<Record<string, unknown>>,
  path: ConfigPath,
  given: {
    readonly schema: ReturnType<typeof routeSchema>;
    readonly defaults: RouteDefaults;
  },
  reporter: Reporter,
): Route | undefined {
  const trimmed = trimEntry(entry, path, reporter);
  const { policy: ownPolicy, ...others } = dropPomeriumKeys("route", trimmed, path, reporter);
  const needsUpstream = !isMapping(others.mcp) || others.mcp.aggregate === undefined;
  const hasUpstream = !needsUpstream || others.to !== undefined;
  if (!hasUpstream) reporter.error([...path, "to"], "to is missing", "add to", "key");
  const input: z.output<typeof given.schema> | undefined = reportIssues(given.schema, others, path, reporter);
  // Parsed even if the rest is invalid, to report all problems at once.
  const from =
    typeof others.from === "string"
      ? readFrom({ from: others.from, prefix: text(others.prefix) }, path, reporter)
      : undefined;
  const policy = ownPolicy === undefined ? undefined : parsePolicy(ownPolicy, [...path, "policy"], reporter);
  if (
    !hasUpstream ||
    input === undefined ||
    from === undefined ||
    (ownPolicy !== undefined && policy === undefined)
  )
    return undefined;
  return buildRoute(input, path, reporter, { from, policy, defaults: given.defaults });
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function reservedRoute(
  { id, entry, place }: StoredEntry,
  reason: UnusableReason,
  route: Route | undefined,
): ReservedRoute {
  if (route !== undefined) {
    const { host, prefix, mcp } = route;
    const sharesHost = mcp.kind === "client" && mcp.sharesHost;
    const needsConsent = consentAuth(route) !== undefined;
    return {
      ...{ id, reason, at: { host, prefix }, kind: mcp.kind },
      ...{ sharesHost, enabled: route.enabled, needsConsent, route },
    };
  }
  const mcp = isMapping(entry.mcp) ? entry.mcp : {};
  const kind = mcp.client === undefined ? "server" : "client";
  const sharesHost = isMapping(mcp.client) && mcp.client.shares_host === true;
  const otherAuth = isMapping(mcp.server) && mcp.server.upstream_auth !== undefined;
  const needsConsent = kind === "server" && mcp.aggregate === undefined && !otherAuth;
  return {
    ...{ id, reason, at: placeIn(entry) ?? parsePlace(place ?? ""), kind },
    ...{ sharesHost, enabled: entry.enabled !== false, needsConsent },
  };
}

/** The place of an entry that is otherwise invalid. */
function placeIn({ from, prefix }: StoredEntry["entry"]): ReservedRoute["at"] {
  if (typeof from !== "string") return undefined;
  const reporter = createReporter("", configSource("", "{}"));
  const found = readFrom({ from, prefix: text(prefix) }, [], reporter);
  return found && { host: found.host, prefix: found.prefix };
}

/** Routes in force keep their places. */
function besideRoutes(reserved: readonly ReservedRoute[], routes: readonly Route[]): ReservedRoute[] {
  const taken = new Set(routes.map(({ host, prefix }) => host + prefix));
  return reserved.map(({ at, ...one }) =>
    at === undefined || taken.has(at.host + at.prefix) ? one : { ...one, at },
  );
}

const inRoute = (id: string) =>
  ({ severity: "error", file: `route ${id}`, line: 1, column: 1, path: "" }) as const;

/** Why rows are not used, by id. */
export function unusableProblems({
  unreadable,
  rejected,
}: UnusableRows): ReadonlyMap<string, readonly Problem[]> {
  return new Map([
    ...unreadable.map(({ id, place }): [string, Problem[]] => {
      const message = `the entry of ${place} cannot be decrypted: requests to this route get 503`;
      const fix =
        "restore the key that it was written with (encryption.keys), or delete the route and create it again";
      return [id, [{ ...inRoute(id), message, fix }]];
    }),
    ...rejected.map(({ id }): [string, Problem[]] => {
      const message =
        "its row was not written by the gateway, or was changed since: requests to this route get 503";
      const fix = "find out who can write to the database, then delete the route and create it again";
      return [id, [{ ...inRoute(id), message, fix }]];
    }),
  ]);
}

/** A secret that an administrator has cleared. */
function missing(id: string, path: string): Problem {
  return {
    ...inRoute(id),
    path,
    message: "the credential is missing: requests to this route get 503",
    fix: "set it with PATCH, or remove the setting (null) if the server does not need it",
  };
}

/** A route in the database: an entry as in the routes file, with an id. */
export interface StoredEntry {
  readonly id: string;
  readonly entry: Readonly<Record<string, unknown>>;
  /** Absent if it is new: all rules hold. One that is stored may break those that there were not yet when it was stored. */
  readonly version?: number;
  /** Host and path prefix of its row. */
  readonly place?: string;
}

/** Rows of stored routes that are not used. */
export interface UnusableRows {
  /** No key decrypts the entry. Id and place are those that the gateway has written. */
  readonly unreadable: readonly Pick<Required<StoredEntry>, "id" | "place">[];
  /**
   * The gateway has not written these rows, or they were changed since; but it has written the entry, for this id. Their place is the one in
   * the entry: a forged row must not take another.
   */
  readonly rejected: readonly Pick<StoredEntry, "id" | "entry">[];
}

export interface StoredRoutesBuilt {
  /** The configuration of the file with all valid stored routes. */
  readonly config: Config;
  /** Problems of the others, by id, including those that cannot be decrypted or whose row is rejected. */
  readonly problems: ReadonlyMap<string, readonly Problem[]>;
  /** Valid routes without their credential, by id: requests get 503. */
  readonly withoutCredential: ReadonlyMap<string, readonly Problem[]>;
  /** All routes that could be parsed, by id, including conflicting ones. */
  readonly read: ReadonlyMap<string, Route>;
}

interface ParsedEntry {
  readonly id: string;
  readonly isNew: boolean;
  readonly defaults: Config;
  readonly route: Route | undefined;
  readonly problems: readonly Problem[];
}
/** One change among thousands of routes must not parse all of them again, while checks wait: the store returns the same entry while its row is unchanged. */
const parsedEntries = new WeakMap<StoredEntry["entry"], ParsedEntry>();

/** An entry as a source of positions. It is valid by itself; only a problem needs it as text, whose parsing takes most of the time. */
function sourceOf(name: string, value: unknown): ConfigSource {
  let source: ConfigSource | undefined;
  return {
    ...{ value, syntaxProblems: [] },
    position(path, at) {
      source ??= configSource(name, JSON.stringify(value));
      return source.position(path, at);
    },
  };
}

/**
 * Adds the routes of the database to those of the file. A route that is invalid or conflicts with an earlier one is reported and
 * reserved; the others are not affected.
 *
 * @param config of the file only
 */
export function buildStoredRoutes(
  config: Config,
  entries: readonly StoredEntry[],
  { unreadable, rejected }: UnusableRows = { unreadable: [], rejected: [] },
): StoredRoutesBuilt {
  if (entries.length + unreadable.length + rejected.length === 0)
    return { config, problems: new Map(), withoutCredential: new Map(), read: new Map() };
  const schemas = { new: cached(() => literalFields()), stored: cached(() => literalFields("former")) };
  const problems = new Map(unusableProblems({ unreadable, rejected }));
  const parse = ({ id, entry, version }: StoredEntry): ParsedEntry => {
    const known = parsedEntries.get(entry);
    const isNew = version === undefined;
    if (known?.id === id && known.isNew === isNew && known.defaults === config) return known;
    const written = { ...entry, id };
    const reporter = createReporter(`route ${id}`, sourceOf(`route ${id}`, written));
    const schema = isNew ? schemas.new() : schemas.stored();
    const route = readRoute(written, [], { schema, defaults: config }, reporter);
    const parsed = { id, isNew, defaults: config, route, problems: reporter.problems() };
    parsedEntries.set(entry, parsed);
    return parsed;
  };
  const notParsed: ReservedRoute[] = [];
  const stored = entries.flatMap((one, index) => {
    const { route, problems: found } = parse(one);
    if (route !== undefined) return [{ route, path: ["stored", index] }];
    problems.set(one.id, found);
    notParsed.push(reservedRoute(one, "route_invalid", undefined));
    return [];
  });
  const unused: readonly ReservedRoute[] = [
    ...unreadable.map(
      ({ id, place }): ReservedRoute => ({
        ...{ id, reason: "route_unreadable", at: parsePlace(place), enabled: true, needsConsent: true },
      }),
    ),
    ...rejected.map((one) => reservedRoute(one, "route_row_rejected", parse(one).route)),
    ...notParsed,
  ];
  const inFile = config.routes.map((route, index) => ({ route, path: ["routes", index] }));
  checkConflicts({ ...config, routes: [...config.routes], reserved: unused }, [...inFile, ...stored], {
    error(path, message, fix) {
      const id = entries[Number(path[1])]?.id;
      if (path[0] !== "stored" || id === undefined) return;
      const at = path.slice(2).join(".");
      const problem = { ...inRoute(id), path: at, message, fix };
      problems.set(id, [...(problems.get(id) ?? []), problem]);
    },
    warn() {},
    moved() {},
    problems: () => [],
  });
  const valid = stored.map(({ route }) => route).filter(({ id }) => !problems.has(id));
  const routes = [...config.routes, ...valid];
  const conflicting = stored.flatMap(({ route }, index) => {
    const entry = problems.has(route.id) ? entries[index] : undefined;
    return entry === undefined ? [] : [reservedRoute(entry, "route_invalid", route)];
  });
  return {
    config: { ...config, routes, reserved: besideRoutes([...unused, ...conflicting], routes) },
    problems,
    withoutCredential: new Map(
      valid.flatMap(({ id, missingSecrets }) =>
        missingSecrets ? [[id, missingSecrets.map((path) => missing(id, path))]] : [],
      ),
    ),
    read: new Map(stored.map(({ route }) => [route.id, route])),
  };
}

/** The schema of these fields, made when it is needed. */
function cached(fields: () => Parameters<typeof routeSchema>[0]): () => ReturnType<typeof routeSchema> {
  let schema: ReturnType<typeof routeSchema> | undefined;
  return () => {
    schema ??= routeSchema(fields());
    return schema;
  };
}
