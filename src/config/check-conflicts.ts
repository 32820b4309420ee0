import { aggregateOf, consentAuth, type Route } from "../model/route.ts";
import { checkAggregates, inWords } from "./aggregates.ts";
import { callbackHost, hasOneOAuthRoute, redirectUriByHand } from "./callback-urls.ts";
import { checkMembersReachable } from "./check-aggregation.ts";
import type { Config } from "./config.ts";
import type { Reporter } from "./reporter.ts";
import { namesReserved } from "./reserved-routes.ts";
import { ownPaths } from "./route-table.ts";
import { checkUpstreamAuth } from "./upstream-auth/upstream-auth.ts";
import type { ConfigPath } from "./yaml-source.ts";

/**
 * A host is one trust domain: a script of an application can read and set the cookies of the whole host, on every port (RFC 6265
 * section 8.5). An application must not share the issuer's host, and the host of an MCP route only if the operator accepts it. Of two
 * routes that must not share a host, the later one is reported: routes of the database come after those of the file, and reserved ones,
 * whose entry was in force, between the two.
 */
export function checkHosts(
  config: Pick<Config, "issuer" | "reserved">,
  routes: readonly { route: Route; path: ConfigPath }[],
  reporter: Pick<Reporter, "error">,
): void {
  const issuer = new URL(config.issuer).hostname;
  const servers = new Map<string, Pick<Route, "id">>();
  const applications = new Map<string, Pick<Route, "id">>();
  const reserve = () => {
    for (const { id, at, kind, sharesHost, reason } of config.reserved) {
      const host = at && URL.parse(`https://${at.host}`)?.hostname;
      // A forged row must not take routes out of force.
      if (reason === "route_row_rejected") continue;
      if (host === undefined || kind !== "client" || sharesHost || servers.has(host)) continue;
      applications.set(host, { id });
    }
  };
  let isReserved = false;
  for (const { route, path } of routes) {
    if (path[0] === "stored" && !isReserved) {
      isReserved = true;
      reserve();
    }
    const host = new URL(route.origin).hostname;
    const at = [...path, "from"];
    if (route.mcp.kind === "client") {
      const server = servers.get(host);
      if (host === issuer) {
        reporter.error(
          at,
          `${host} is the issuer's host: an application there could give consent in the name of its users and use their sessions`,
          "give the application or the issuer another host",
        );
      } else if (server !== undefined && !route.mcp.sharesHost) {
        reporter.error(
          at,
          `${host} is the host of the MCP route ${server.id}: an application there could connect it in the name of its users`,
          "give the application another host, or accept this with mcp: {client: {shares_host: true}}",
        );
      } else if (!route.mcp.sharesHost) applications.set(host, route);
      continue;
    }
    const application = applications.get(host);
    if (application !== undefined) {
      reporter.error(
        at,
        `${host} is the host of the application ${application.id}, which could connect this MCP route in the name of its users`,
        `give this route another host, or accept this with mcp: {client: {shares_host: true}} on ${application.id}`,
      );
    } else servers.set(host, route);
  }
}

/** Reports conflicts between routes: duplicate URLs and ids, and references to missing routes. */
export function checkConflicts(
  config: Config,
  routes: readonly { route: Route; path: ConfigPath }[],
  reporter: Reporter,
): void {
  const urls = new Map<string, ConfigPath>();
  const ids = new Map<string, ConfigPath>();
  const texts = new Map<string, ConfigPath>();
  const issuer = new URL(config.issuer);
  const issuerHost = issuer.host;
  const origins = new Map([[issuerHost, issuer.origin]]);
  for (const { route, path } of routes) {
    const origin = origins.get(route.host) ?? route.origin;
    origins.set(route.host, origin);
    if (origin !== route.origin) {
      reporter.error(
        [...path, "from"],
        `${route.host} is both ${origin} and ${route.origin}: a host is served over one of them only`,
        `write ${origin}${route.prefix === "/" ? "" : route.prefix}, or give this route another port`,
      );
    }
    const url = route.host + route.prefix;
    const other = urls.get(url);
    if (other !== undefined) {
      reporter.error(
        [...path, "from"],
        `${route.resource} is already claimed by ${other[0]}[${other[1]}]`,
        "give one of them another host or path, or list both upstreams in one `to`",
      );
    } else urls.set(url, path);
    const duplicate = ids.get(route.id);
    if (duplicate !== undefined && other === undefined) {
      reporter.error(
        [...path, "id"],
        `the id ${route.id} is taken by ${duplicate[0]}[${duplicate[1]}]`,
        "give it another id",
      );
    } else ids.set(route.id, path);
    for (const text of route.wellKnown?.keys() ?? []) {
      const name = text.slice("/.well-known/".length);
      const taken = texts.get(route.host + text);
      const below = routes.find(
        ({ route: other }) =>
          other.host === route.host && (other.prefix === text || other.prefix.startsWith(`${text}/`)),
      );
      if (taken !== undefined || below !== undefined)
        reporter.error(
          [...path, "well_known", name],
          taken === undefined
            ? `${text} is the path of the route ${below?.route.id}`
            : `${text} of ${route.host} is already served by ${taken[0]}[${taken[1]}]`,
          "remove one of them",
          "key",
        );
      else texts.set(route.host + text, path);
    }
    const own = ownPaths(config, { issuer: route.host === issuerHost, route: true }).find(
      (entry) => route.prefix === entry.path || route.prefix.startsWith(`${entry.path}/`),
    );
    if (own !== undefined) {
      reporter.error(
        [...path, "from"],
        `${own.path} is served by the gateway itself on this host`,
        "give the route another path",
      );
    }
  }
  checkHosts(config, routes, reporter);
  checkAggregates(config, routes, reporter);
  checkMembersReachable(config, routes, reporter);
  checkClientDocuments(config, reporter);
  for (const { route, path } of routes) {
    announceCallback(config, route, path, reporter);
    checkUpstreamAuth(config, route, path, reporter);
  }
  for (const { route, path } of routes)
    checkApplication(route, path, { routes, reserved: config.reserved }, reporter);
}

/** Reports MCP routes that a client route names and its tokens cannot be valid for, or names twice. */
function checkApplication(
  { mcp }: Route,
  path: ConfigPath,
  { routes, reserved }: Pick<Config, "reserved"> & { readonly routes: readonly { readonly route: Route }[] },
  reporter: Reporter,
): void {
  if (mcp.kind !== "client") return;
  const seen = new Set<Route>();
  for (const [index, name] of (mcp.routes ?? []).entries()) {
    const at = [...path, "mcp", "client", "routes", index];
    const found = routes.find(({ route }) => route.id === name || route.resource === name.replace(/\/$/, ""));
    if (found === undefined && namesReserved({ reserved }, name)) continue;
    if (found?.route.mcp.kind !== "server")
      reporter.error(
        at,
        found === undefined
          ? `there is no route ${inWords(name)}`
          : `${name} is the route of an application, not of an MCP server`,
        "write the id or `from` of an MCP route",
      );
    else if (aggregateOf(found.route) !== undefined)
      reporter.warn(
        at,
        `${name} is an aggregated route: it answers calls with tokens of applications with 403`,
        "name its members instead",
      );
    // Harmless, unlike in an aggregated route, but seldom meant.
    else if (seen.has(found.route)) reporter.warn(at, `${name} is named twice`, "remove one of them");
    if (found !== undefined) seen.add(found.route);
  }
}

/** Clients with a document use it instead of registration if our metadata announces documents, and fail if theirs is not allowed. */
function checkClientDocuments({ authorizationServer }: Config, reporter: Reporter): void {
  const { clientIdMetadataDocument, allowedClientIdDomains, dynamicClientRegistration } = authorizationServer;
  if (!clientIdMetadataDocument || allowedClientIdDomains.length === 0) return;
  reporter.warn(
    ["authorization_server", "allowed_client_id_domains"],
    "MCP clients with a document on any other host fail: our metadata announces Client ID Metadata Documents, and these clients try nothing else",
    dynamicClientRegistration
      ? "list the hosts of all clients in use, or set client_id_metadata_document: false to make them register instead"
      : "list the hosts of all clients in use",
  );
}

/**
 * If a host has several OAuth routes, each has a separate callback; if an application shares the host, the callback is on the issuer's
 * host. Manual registrations must list it.
 */
function announceCallback(config: Config, route: Route, path: ConfigPath, reporter: Reporter): void {
  const auth = consentAuth(route);
  const moved = callbackHost(config, route) !== route.host;
  if (auth === undefined || (hasOneOAuthRoute(config, route.host) && !moved)) return;
  const uri = redirectUriByHand(config, route);
  const why = moved
    ? `an application shares ${route.host}, so this route's redirect URI is on the issuer's host`
    : `${route.host} has several routes with upstream OAuth, so each has its own redirect URI`;
  if (auth.clientId !== undefined)
    reporter.warn(
      [...path, "from"],
      `${why}: the one ${moved ? `on ${route.host}` : "without an id"} is no longer used`,
      `register exactly ${uri} for the client ${auth.clientId}, if it is not registered yet`,
    );
  else if (config.upstreamOAuth.clientIdMetadataUrl !== undefined)
    reporter.warn(
      [...path, "from"],
      `${why}: the document at upstream_oauth.client_id_metadata_url must list it`,
      `publish the document with ${uri} in its redirect_uris`,
    );
}

/** A reference to a secret, and its owner. */
interface Use {
  readonly reference: string;
  readonly path: ConfigPath;
  readonly owner: string;
}
type Mapping = Readonly<Record<string, unknown>>;

/**
 * Warns if two unrelated parties share a secret (an environment variable or a file): a party that receives it could use it with the
 * other. The same client or upstream twice counts once.
 *
 * @param file the routes file as written, references not resolved.
 */
export function checkSharedSecrets(file: Mapping, reporter: Pick<Reporter, "warn">): void {
  const first = new Map<string, Use>();
  for (const use of [...ownUses(file), ...usesIn(file, [], "")]) {
    const other = first.get(use.reference);
    if (other === undefined) first.set(use.reference, use);
    else if (other.owner !== use.owner)
      reporter.warn(
        use.path,
        `${use.reference} is the secret of ${other.owner}, too: a party that receives it here can use it there`,
        `give ${use.owner} another secret`,
      );
  }
}

/** Secrets of the gateway itself. */
function ownUses(file: Mapping): Use[] {
  const keys = list(mapping(file.encryption).keys);
  const encryption = (keys.length === 0 ? [{ env: "ENCRYPTION_KEY" }] : keys).flatMap((key, index) => {
    const { env, file: path } = mapping(key);
    const reference = typeof env === "string" ? env : typeof path === "string" ? `file:${path}` : undefined;
    const at = ["encryption", "keys", index];
    return reference === undefined ? [] : [{ reference, path: at, owner: "the database's encryption" }];
  });
  const { admin_tokens, viewer_tokens } = mapping(file.admin_api);
  const admin = [
    ...uses(admin_tokens, ["admin_api", "admin_tokens"], "the admin API"),
    ...uses(viewer_tokens, ["admin_api", "viewer_tokens"], "the admin API's viewers"),
  ];
  const { secret } = mapping(mapping(file.listen).xds);
  const xds = uses(secret, ["listen", "xds", "secret"], "the xDS listener");
  return [...encryption, ...admin, ...uses(file.database, ["database"], "the database"), ...xds];
}

/** Secrets of OAuth clients and static credentials of upstreams, at any depth. */
function usesIn(value: unknown, path: ConfigPath, upstream: string): Use[] {
  if (Array.isArray(value)) return value.flatMap((item, index) => usesIn(item, [...path, index], upstream));
  if (!isMapping(value)) return [];
  const to = [value.to].flat().find((url) => typeof url === "string");
  const host = (to && URL.parse(to)?.host) || upstream;
  return Object.entries(value).flatMap(([key, inner]) => {
    const at = [...path, key];
    switch (key) {
      case "client_secret":
      case "private_key":
        return uses(inner, at, `the OAuth client ${value.client_id}`);
      case "idp_client_secret":
        return uses(inner, at, `the OAuth client ${value.idp_client_id}`);
      case "api_key":
        return uses(mapping(inner).value, [...at, "value"], `the upstream ${host}`);
      case "headers":
        return uses(inner, at, `the upstream ${host}`);
      default:
        return usesIn(inner, at, host);
    }
  });
}

/** The references in a value, or in the values of a list or mapping. */
function uses(value: unknown, path: ConfigPath, owner: string): Use[] {
  if (typeof value === "string") {
    const names = value.startsWith("file:")
      ? [value]
      : [...value.matchAll(/\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g)].map(([, name]) => name ?? "");
    return names.map((reference) => ({ reference, path, owner }));
  }
  if (Array.isArray(value)) return value.flatMap((item, index) => uses(item, [...path, index], owner));
  return isMapping(value)
    ? Object.entries(value).flatMap(([key, item]) => uses(item, [...path, key], owner))
    : [];
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
function mapping(value: unknown): Mapping {
  return isMapping(value) ? value : {};
}
function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
