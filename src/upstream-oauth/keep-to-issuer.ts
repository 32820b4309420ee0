import { askedAt } from "../config/endpoint.ts";
import type { Route } from "../model/route.ts";
import type { Store } from "../store/store.ts";
import type { Discovery } from "./discovery.ts";
import { UpstreamOAuthError } from "./errors.ts";
import { issuerName, sameSite } from "./issuers.ts";
import { credentialOwner, type UpstreamServer } from "./server-metadata.ts";

/** A client of the routes file, and the server that the operator names for it. */
interface NamedClient {
  readonly clientId: string;
  readonly authorizationServerUrl?: string;
}

/**
 * Credentials of the routes file belong to one issuer: the one that the operator names (`authorization_server_url`), else the
 * first that discovery found for them. An upstream that names another one gets none of them (SEP-2352).
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
  const place = { routeId: route.id, upstream: route.upstream, clientId };
  const kept = await store.clientIssuers.keep(place, issuer, authorizationServerUrl !== undefined);
  if (kept === issuer) return;
  throw new UpstreamOAuthError(
    "issuer_changed",
    `the client ${clientId} of route ${route.id} belongs to ${kept}, and the upstream names ${issuer} now: nothing of it is sent there`,
  );
}

/**
 * Who asks for a path of the upstream does not choose who gets the credentials of the routes file: the server that the metadata of
 * that path names must be of the upstream's site, or the one that is found where the operator says, or nobody says, where to look.
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
 * What of `keepToIssuer` can be said without the database.
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
    `the client ${clientId} of route ${route.id} is for ${named} (authorization_server_url), and the upstream names ${issuer}: nothing of it is sent there`,
  );
}
