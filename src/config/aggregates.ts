import { hash } from "node:crypto";
import { aggregateOf, type Route } from "../model/route.ts";
import type { Config } from "./config.ts";
import type { Reporter } from "./reporter.ts";
import { namesReserved } from "./reserved-routes.ts";
import type { ConfigPath } from "./yaml-source.ts";

/** An MCP route behind an aggregated route. */
export interface Member {
  readonly route: Route;
  /** What the names of its tools and prompts begin with: at most `maxPrefix` characters of `[A-Za-z0-9_-]`. */
  readonly prefix: string;
}

/** Longest prefix, characters: it leaves half of a name of 64 characters to the member. */
const maxPrefix = 32;

const known = new WeakMap<Config, Map<string, readonly Member[]>>();

/**
 * The enabled members of an aggregated route, in the order in which it names them, or of the routes file; none for other routes.
 * Computed once per configuration: `all` may be thousands.
 */
export function membersOf(config: Config, route: Pick<Route, "id" | "mcp">): readonly Member[] {
  const ofConfig = known.get(config) ?? new Map<string, readonly Member[]>();
  known.set(config, ofConfig);
  const before = ofConfig.get(route.id);
  if (before !== undefined) return before;
  const members = resolve(route, config.routes).filter((member) => member.route.enabled);
  ofConfig.set(route.id, members);
  return members;
}

/** The same with disabled members. */
export function configuredMembersOf(config: Config, route: Pick<Route, "mcp">): readonly Member[] {
  return resolve(route, config.routes);
}

const memberIds = new WeakMap<readonly Member[], ReadonlySet<string>>();

/** Whether a route is an enabled aggregated route that has this enabled member. Constant time. */
export function isMember(
  config: Config,
  aggregate: Pick<Route, "id" | "mcp" | "enabled"> | undefined,
  member: Pick<Route, "id">,
): boolean {
  if (!aggregate?.enabled) return false;
  const members = membersOf(config, aggregate);
  const ids = memberIds.get(members) ?? new Set(members.map(({ route }) => route.id));
  memberIds.set(members, ids);
  return ids.has(member.id);
}

/**
 * The hosts of the members that the sidecar calls through a listener of the generated Envoy (`aggregation.listen`). Empty: without
 * aggregated routes, or with `aggregation.through`, there is no such listener.
 */
export function memberHosts(config: Config): ReadonlySet<string> {
  if (config.aggregation.through !== undefined) return new Set();
  const aggregates = config.routes.filter((route) => route.enabled);
  return new Set(aggregates.flatMap((route) => membersOf(config, route).map((member) => member.route.host)));
}

function resolve(route: Pick<Route, "mcp">, routes: readonly Route[]): Member[] {
  const aggregate = aggregateOf(route);
  if (aggregate === undefined) return [];
  const servers = routes.filter(isServer);
  const named =
    aggregate.members === "all"
      ? servers
      : aggregate.members.flatMap((name) => servers.find((server) => isNamed(server, name)) ?? []);
  return [...new Set(named)].map((member) => ({
    route: member,
    prefix: prefixFor(member, aggregate.prefix),
  }));
}

function isServer(route: Route): boolean {
  return route.mcp.kind === "server" && route.mcp.aggregate === undefined;
}

function isNamed(route: Route, name: string): boolean {
  return route.id === name || route.resource === name.replace(/\/$/, "");
}

/** The same on every replica: it depends on the route's id only. */
function prefixFor({ id }: Route, template: string): string {
  const prefix = template.replaceAll("{route}", id.replace(/[^A-Za-z0-9_-]/g, "-"));
  if (prefix.length <= maxPrefix) return prefix;
  const end = /[_-]*$/.exec(template)?.[0] ?? "";
  const digest = hash("sha256", prefix, "hex").slice(0, 8);
  return `${prefix.slice(0, maxPrefix - end.length - digest.length - 1)}-${digest}${end}`;
}

/**
 * Reports aggregated routes whose members do not exist, or whose prefixes are ambiguous: a member must not be able to pose as another
 * by the name of a tool. Disabled members count, so that enabling one later breaks nothing.
 */
export function checkAggregates(
  { reserved }: Pick<Config, "reserved">,
  routes: readonly { readonly route: Route; readonly path: ConfigPath }[],
  reporter: Pick<Reporter, "error" | "warn">,
): void {
  const all = routes.map(({ route }) => route);
  for (const { route, path } of routes) {
    const aggregate = aggregateOf(route);
    if (aggregate === undefined) continue;
    const at = [...path, "mcp", "aggregate"];
    if (aggregate.members !== "all")
      checkNames(route, aggregate.members, { all, reserved }, [...at, "routes"], reporter);
    else if (!all.some(isServer))
      reporter.warn(
        [...at, "routes"],
        "there is no other MCP route, so this one has no tools",
        "add MCP routes; ignore this if they will be created with the admin API",
      );
    const members = resolve(route, all).sort((a, b) => (a.prefix < b.prefix ? -1 : 1));
    for (const [index, member] of members.entries()) {
      const before = members[index - 1];
      if (before === undefined || !member.prefix.startsWith(before.prefix)) continue;
      // The one that came last: a route of the database must not break those of the file.
      const parties = [route.id, before.route.id, member.route.id];
      const last = routes.findLast((one) => parties.includes(one.route.id));
      reporter.error(
        last === undefined || last.route.id === route.id ? at : [...last.path, "id"],
        `the prefix ${JSON.stringify(before.prefix)} of ${before.route.id} begins the prefix ${JSON.stringify(member.prefix)} of ${member.route.id}: names would be ambiguous`,
        'give one of the routes another id, or write a prefix that ends with a separator: "{route}__"',
      );
    }
  }
}

/** Reports names that are not those of MCP routes, reserved ones included, and routes that are named twice. */
function checkNames(
  route: Route,
  names: readonly string[],
  { all, reserved }: Pick<Config, "reserved"> & { readonly all: readonly Route[] },
  at: ConfigPath,
  reporter: Pick<Reporter, "error">,
): void {
  const seen = new Map<Route, number>();
  for (const [index, name] of names.entries()) {
    const found = all.find((one) => isNamed(one, name));
    const first = found && seen.get(found);
    if (found === undefined) {
      if (namesReserved({ reserved }, name)) continue;
      reporter.error(
        [...at, index],
        `there is no route ${inWords(name)}`,
        name === "all"
          ? "write routes: all, without brackets, for every MCP route"
          : "write the id or `from` of an MCP route",
      );
    } else if (!isServer(found))
      reporter.error(
        [...at, index],
        found === route
          ? `${name} is this aggregated route itself`
          : found.mcp.kind === "client"
            ? `${name} is the route of an application, not of an MCP server`
            : `${name} is an aggregated route, too: members are routes with one MCP server`,
        found.mcp.kind === "server" && found !== route
          ? `write the routes that ${name} names`
          : "write the id or `from` of an MCP route",
      );
    else if (first !== undefined)
      reporter.error([...at, index], `${name} is the route of entry ${first + 1}, too`, "remove one of them");
    else seen.set(found, index);
  }
}

/** A name as an error shows it: in quotes if it could be overlooked. */
export function inWords(name: string): string {
  return /^\S+$/.test(name) ? name : JSON.stringify(name);
}
