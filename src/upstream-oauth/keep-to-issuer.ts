import type { Route } from "../config/route.ts";
import type { Store } from "../store/store.ts";
import { UpstreamOAuthError } from "./upstream-oauth-error.ts";

/**
 * Credentials of the routes file belong to one issuer: the first that discovery found for them, or the one that the operator
 * names (`authorization_server_url`). An upstream that names another later gets none of them (F4.2, SEP-2352).
 *
 * @throws UpstreamOAuthError `issuer_changed`
 */
export async function keepToIssuer(
  store: Pick<Store, "clientIssuers">,
  route: Route,
  client: { readonly clientId: string; readonly authorizationServerUrl?: string },
  issuer: string,
): Promise<void> {
  const { clientId, authorizationServerUrl } = client;
  const place = { routeId: route.id, upstream: route.upstream, clientId };
  const kept = await store.clientIssuers.keep(place, issuer, issuer === authorizationServerUrl);
  if (kept === issuer) return;
  throw new UpstreamOAuthError(
    "issuer_changed",
    `the client ${clientId} of route ${route.id} belongs to ${kept}, and the upstream names ${issuer} now: nothing of it is sent there`,
  );
}
