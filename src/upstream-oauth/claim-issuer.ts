import type { Config } from "../config/config.ts";
import type { UpstreamOAuth as OAuthConfig, Route } from "../model/route.ts";
import type { RouteIssuer, Store } from "../store/store.ts";
import { checkIssuer, issuerName } from "./issuer-of-route.ts";

/** The routes that have been connected at servers, by issuer. */
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
 * Remembers that a route gets tokens at an issuer. Of routes that do so for the first time side by side, one is the first.
 *
 * @param agreed it is not asked whose the issuer is
 * @returns how to undo it where no token comes of it
 * @throws UpstreamOAuthError as `checkIssuer`
 */
export async function claimIssuer(
  { config, store }: { readonly config: Config; readonly store: Pick<Store, "routeIssuers"> },
  route: Route,
  auth: Pick<OAuthConfig, "endpoint" | "authorizationServerUrl">,
  issuer: string,
  agreed = false,
): Promise<{ undo(): Promise<void> }> {
  const owner = issuerName(issuer);
  const place = { routeId: route.id, upstream: route.upstream };
  const isNew = await store.routeIssuers.add(place, owner);
  const undo = async () => {
    if (isNew) await store.routeIssuers.remove(place, owner);
  };
  try {
    if (!agreed) checkIssuer(config, route, auth, { issuer }, await knownAt(store, [owner]));
  } catch (error) {
    await undo();
    throw error;
  }
  return { undo };
}
