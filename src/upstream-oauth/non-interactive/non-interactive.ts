import type { NonInteractiveType } from "../../config/upstream-auth/upstream-auth.ts";
import { type NonInteractiveAuth, nonInteractiveAuth, type Route } from "../../model/route.ts";
import type { NewUpstreamToken } from "../../store/upstream-tokens.ts";
import { UpstreamOAuthError } from "../errors.ts";
import type { TokenSubject } from "../upstream-oauth.ts";
import { clientCredentials } from "./client-credentials.ts";
import { type NonInteractiveDeps, type NonInteractiveGrant, tokenSource } from "./grant.ts";
import { idJag } from "./id-jag.ts";
import { tokenExchange } from "./token-exchange.ts";

/** One for each type of `config/upstream-auth/` that gets tokens without consent. */
const grants: { readonly [K in NonInteractiveType]: NonInteractiveGrant } = {
  client_credentials: clientCredentials,
  token_exchange: tokenExchange,
  id_jag: idJag,
};

/** How tokens of a type are obtained. */
export function grantOf({ type }: NonInteractiveAuth): NonInteractiveGrant {
  const known: Readonly<Record<string, NonInteractiveGrant | undefined>> = grants;
  const grant = known[type];
  if (grant === undefined) throw new UpstreamOAuthError("route_unavailable", `${type} has no grant type`);
  return grant;
}

/**
 * Obtains an upstream token without consent.
 *
 * @throws UpstreamOAuthError `sign_in_token_missing` if the user must sign in again; others as in `requestToken`
 */
export async function obtainNonInteractive(
  deps: NonInteractiveDeps,
  route: Route,
  subject: TokenSubject,
): Promise<NewUpstreamToken> {
  const auth = nonInteractiveAuth(route);
  if (auth === undefined)
    throw new UpstreamOAuthError(
      "route_unavailable",
      `route ${route.id} needs a user's consent, or no token`,
    );
  const source = await tokenSource(deps, route, auth);
  try {
    return await grantOf(auth).obtain(deps, { route, auth, settings: auth.settings, subject, source });
  } catch (error) {
    // A server that issued no token is not recorded for the route.
    await source.undo?.();
    throw error;
  }
}
