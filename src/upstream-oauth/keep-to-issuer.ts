import type { Route } from "../config/route.ts";
import type { Store } from "../store/store.ts";
import { issuerName } from "./issuer-of-route.ts";
import { UpstreamOAuthError } from "./upstream-oauth-error.ts";
import { credentialOwner, type UpstreamServer } from "./upstream-server.ts";

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
