import type { AuthorizationServer } from "oauth4webapi";
import { parse } from "tldts";
import type { Config } from "../config/config.ts";
import { askedAt } from "../config/paths.ts";
import type { ConsentAuth, Route, UpstreamAuth } from "../model/route.ts";
import type { RouteIssuer } from "../store/issuers.ts";
import type { Store } from "../store/store.ts";
import type { Discovery } from "./discovery.ts";
import { UpstreamOAuthError } from "./errors.ts";
import { credentialOwner, type UpstreamServer } from "./server-metadata.ts";

/** The registrable domain of a public name, by the public suffix list including private suffixes; undefined for other hosts. */
function registrableDomain(url: URL): string | undefined {
  const { domain, isIcann, isPrivate } = parse(url.hostname, { allowPrivateDomains: true });
  return (isIcann || isPrivate) && domain ? domain : undefined;
}

/** Whether two URLs are on the same site: same registrable domain, else same host. */
export function sameSite(one: string, other: string): boolean {
  return haveSameDomain(one, other, (url) => url.hostname);
}

/** Whether two URLs certainly have the same owner: same registrable domain, else same host and port. */
export function sameOwner(one: string, other: string): boolean {
  return haveSameDomain(one, other, (url) => url.host);
}

function haveSameDomain(one: string, other: string, otherwise: (url: URL) => string): boolean {
  const [a, b] = [URL.parse(one), URL.parse(other)];
  if (!a || !b) return false;
  return (registrableDomain(a) ?? otherwise(a)) === (registrableDomain(b) ?? otherwise(b));
}

/** The operator's settings for a route's authorization server. */
type Named = Pick<ConsentAuth, "endpoint" | "authorizationServerUrl">;
type Endpoints = Pick<AuthorizationServer, "issuer" | "authorization_endpoint" | "token_endpoint"> & {
  /** As in `UpstreamServer`. */
  readonly named?: string;
};

/** Normalizes an issuer or an origin. */
export function issuerName(issuer: string): string {
  return new URL(issuer).href.replace(/\/$/, "");
}

/** Whether the operator configured this authorization server for the route. */
export function isNamedByOperator(auth: Named, issuer: string): boolean {
  if (auth.endpoint) return true;
  const own = auth.authorizationServerUrl;
  return own !== undefined && issuerName(own) === issuerName(issuer);
}

/**
 * The issuer, and the origin of the authorization endpoint if it differs. If only the operator vouches for the issuer (`expected_issuer`),
 * also the issuer that the upstream names, and the origin of the token endpoint.
 */
export function ownersOf(as: Endpoints): string[] {
  const { origin } = new URL(as.issuer);
  const endpoints = [as.authorization_endpoint, as.named === undefined ? undefined : as.token_endpoint];
  const otherOrigins = endpoints.filter((url) => url !== undefined).map((url) => new URL(url).origin);
  const named = as.named === undefined ? [] : [issuerName(as.named)];
  return [...new Set([issuerName(as.issuer), ...named, ...otherOrigins.filter((one) => one !== origin)])];
}

/**
 * An upstream names its own authorization server. It may not name one that another upstream uses, or that signs users in here: such a
 * server may ignore `resource`, and its token would be sent to the upstream that named it. A server on the upstream's own site is
 * always allowed, and so is one that the operator sets for the route.
 *
 * @param known by issuer, the routes that have been connected there, oldest first
 * @param owners the owners of the server to check
 * @throws UpstreamOAuthError `issuer_of_other_route`
 */
export function checkIssuer(
  config: Config,
  route: Route,
  auth: Named,
  as: Endpoints,
  known: ReadonlyMap<string, readonly RouteIssuer[]> = new Map(),
  owners: readonly string[] = ownersOf(as),
): void {
  if (isNamedByOperator(auth, as.named ?? as.issuer)) return;
  for (const owner of owners) {
    if (sameOwner(owner, route.upstream)) continue;
    const rows = known.get(owner) ?? [];
    const ownRow = rows.findIndex((row) => row.routeId === route.id && row.upstream === route.upstream);
    if (rows[ownRow]?.accepted) continue;
    const before = rows.slice(0, ownRow < 0 ? rows.length : ownRow);
    const who = signsPeopleIn(config, owner)
      ? "signs people in here"
      : otherRoutes(config, route).some((other) => hasServer(other, owner) || isRowOf(before, other))
        ? "already serves another route"
        : undefined;
    if (who === undefined) continue;
    throw new UpstreamOAuthError(
      "issuer_of_other_route",
      `the authorization server ${as.issuer} that the upstream names ${who}: if route ${route.id} may use it too, set mcp.server.authorization_server_url to ${as.issuer} on the route`,
    );
  }
}

/** Routes that use an authorization server and whose upstream has another owner. */
function otherRoutes(config: Config, route: Route): Route[] {
  return config.routes.filter(
    (other) =>
      other.id !== route.id &&
      other.mcp.kind === "server" &&
      serversOf(other.mcp.auth) !== undefined &&
      !sameOwner(other.upstream, route.upstream),
  );
}

/** Whether an issuer or origin belongs to another route: on its upstream's site, or set for it by the operator. */
function hasServer({ mcp, upstream }: Route, owner: string): boolean {
  const servers = mcp.kind === "server" ? serversOf(mcp.auth) : undefined;
  if (servers === undefined) return false;
  const { issuer, endpoints = [] } = servers;
  if (issuer !== undefined && isAt(issuer, owner)) return true;
  const { origin } = new URL(owner);
  if (endpoints.some((url) => new URL(url).origin === origin)) return true;
  return servers.discovered && sameOwner(upstream, owner);
}

/** The authorization server of a route in the routes file; undefined for routes without one. */
function serversOf(
  auth: UpstreamAuth,
): { issuer?: string; endpoints?: readonly string[]; discovered: boolean } | undefined {
  switch (auth.mode) {
    case "consent":
      return auth.endpoint
        ? { endpoints: [auth.endpoint.authUrl, auth.endpoint.tokenUrl], discovered: false }
        : { issuer: auth.authorizationServerUrl, discovered: true };
    case "non_interactive": {
      const { tokenUrl, authorizationServerUrl: issuer, otherEndpoints } = auth;
      return tokenUrl === undefined
        ? { issuer, endpoints: otherEndpoints, discovered: true }
        : { endpoints: [tokenUrl, ...otherEndpoints], discovered: false };
    }
    case "static":
      return undefined;
    default:
      return auth satisfies never;
  }
}

function signsPeopleIn({ issuer, signIn, externalTokens }: Config, owner: string): boolean {
  const issuers = [...signIn.providers, ...externalTokens.trustedIssuers].map((one) => one.issuer);
  return [issuer, ...issuers].some((one) => isAt(one, owner));
}

/** Whether `owner` is this issuer or its origin. */
function isAt(issuer: string, owner: string): boolean {
  return issuerName(issuer) === owner || new URL(issuer).origin === owner;
}

function isRowOf(rows: readonly RouteIssuer[], { id, upstream }: Route): boolean {
  return rows.some((row) => row.routeId === id && row.upstream === upstream);
}

/** The routes that have been connected at each server, by issuer. */
export async function knownAt(
  store: Pick<Store, "routeIssuers">,
  owners: readonly string[],
): Promise<Map<string, RouteIssuer[]>> {
  const found = await Promise.all(
    owners.map(async (owner) => [owner, await store.routeIssuers.of(owner)] as const),
  );
  return new Map(found);
}

/**
 * Records that a route gets tokens at an issuer. If several routes do so concurrently for the first time, one of them is the first.
 *
 * @param agreed skips the check of who owns the issuer
 * @returns a way to undo it if no token is issued
 * @throws UpstreamOAuthError as `checkIssuer`
 */
export async function claimIssuer(
  { config, store }: { readonly config: Config; readonly store: Pick<Store, "routeIssuers"> },
  route: Route,
  auth: Pick<ConsentAuth, "endpoint" | "authorizationServerUrl">,
  issuer: string,
  agreed = false,
): Promise<{ undo(): Promise<void> }> {
  const owner = issuerName(issuer);
  const key = { routeId: route.id, upstream: route.upstream };
  const isNew = await store.routeIssuers.add(key, owner);
  const undo = async () => {
    if (isNew) await store.routeIssuers.remove(key, owner);
  };
  try {
    if (!agreed) checkIssuer(config, route, auth, { issuer }, await knownAt(store, [owner]));
  } catch (error) {
    await undo();
    throw error;
  }
  return { undo };
}

/** A client of the routes file, and the authorization server that the operator sets for it. */
interface NamedClient {
  readonly clientId: string;
  readonly authorizationServerUrl?: string;
}

/**
 * Credentials of the routes file belong to one issuer: the one that the operator sets (`authorization_server_url`), else the first that
 * discovery found. They are not sent to another issuer that the upstream names (SEP-2352).
 *
 * @throws UpstreamOAuthError `issuer_changed`
 */
export async function keepToIssuer(
  store: Pick<Store, "clientIssuers">,
  route: Route,
  client: NamedClient,
  server: Pick<UpstreamServer, "as" | "named">,
): Promise<void> {
  checkNamedIssuer(route, client, server);
  const issuer = credentialOwner(server);
  const { clientId, authorizationServerUrl } = client;
  const key = { routeId: route.id, upstream: route.upstream, clientId };
  const kept = await store.clientIssuers.keep(key, issuer, authorizationServerUrl !== undefined);
  if (kept === issuer) return;
  throw new UpstreamOAuthError(
    "issuer_changed",
    `the client ${clientId} of route ${route.id} belongs to ${kept}, but the upstream now names ${issuer}: its credentials are not sent there`,
  );
}

/**
 * A caller that chooses a path of the upstream must not choose which server gets the credentials of the routes file: the server that the
 * metadata of that path names must be on the upstream's site, or be the one that discovery finds without the path.
 *
 * @throws UpstreamOAuthError `issuer_changed`
 */
export async function checkAskedIssuer(
  discovery: Pick<Discovery, "server">,
  route: Route,
  { clientId, authorizationServerUrl: named }: Partial<NamedClient>,
  issuer: string,
): Promise<void> {
  if (route.askedPath === undefined || clientId === undefined || named !== undefined) return;
  if (sameSite(issuer, route.upstream)) return;
  const usual = await discovery.server(askedAt(route, undefined)).catch(() => undefined);
  if (usual && issuerName(usual.as.issuer) === issuerName(issuer)) return;
  throw new UpstreamOAuthError(
    "issuer_changed",
    `only the metadata for ${route.askedPath} names ${issuer}, and a client chose that path: set mcp.server.path or authorization_server_url on route ${route.id} if the client ${clientId} belongs there`,
  );
}

/**
 * The part of `keepToIssuer` that needs no database.
 *
 * @throws UpstreamOAuthError `issuer_changed`
 */
export function checkNamedIssuer(
  route: Route,
  { clientId, authorizationServerUrl: named }: NamedClient,
  { as, named: asked }: Pick<UpstreamServer, "as" | "named">,
): void {
  const issuer = asked ?? as.issuer;
  if (named === undefined || issuerName(named) === issuerName(issuer)) return;
  throw new UpstreamOAuthError(
    "issuer_changed",
    `the client ${clientId} of route ${route.id} is for ${named} (authorization_server_url), but the upstream names ${issuer}: its credentials are not sent there`,
  );
}
