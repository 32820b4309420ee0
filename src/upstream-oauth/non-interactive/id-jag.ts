import { identityProviderOf } from "../../config/sign-in-providers.ts";
import type { IdJagSettings } from "../../config/upstream-auth/id-jag.ts";
import type { Route } from "../../model/route.ts";
import { generateDpopKey } from "../dpop.ts";
import { UpstreamOAuthError } from "../errors.ts";
import { requestToken } from "../token-endpoint.ts";
import {
  grantTypes,
  type NonInteractiveDeps,
  nonInteractiveGrant,
  requestAt,
  signInToken,
  tokenType,
  toToken,
} from "./grant.ts";

/** Identity Assertion JWT Authorization Grant: exchanges the ID token for an assertion at the sign-in provider, and that for a token. */
export const idJag = nonInteractiveGrant<IdJagSettings>({
  async obtain(deps, { route, auth, settings, subject, source }) {
    const scopes = auth.scopes ?? source.scopes;
    const scope = scopes.join(" ") || undefined;
    const provider = await identityProvider(deps, route, settings, subject.userId);
    const assertion = await requestToken({
      ...requestAt(deps, route, provider, {
        clientId: settings.idpClientId,
        clientSecret: settings.idpClientSecret,
      }),
      grantType: grantTypes.tokenExchange,
      parameters: {
        requested_token_type: tokenType("id-jag"),
        audience: source.issuer,
        resource: source.resource,
        scope,
        subject_token: await signInToken(deps, subject.userId, "idToken"),
        subject_token_type: tokenType("id_token"),
      },
    });
    if (assertion.issuedTokenType && assertion.issuedTokenType !== tokenType("id-jag")) {
      throw new UpstreamOAuthError("token_invalid", "the identity provider issued no identity assertion");
    }
    const dpopKey = source.dpop ? await generateDpopKey() : undefined;
    const answer = await requestToken({
      ...requestAt(deps, route, source, auth),
      grantType: grantTypes.jwtBearer,
      parameters: { assertion: assertion.accessToken, scope, resource: source.resource },
      dpopKey,
    });
    return toToken(route, subject, source, auth.clientId, answer, scopes, dpopKey);
  },
  async check(deps, route, settings, { onStep, checkTokenEndpoint }) {
    if (settings.idpTokenUrl !== undefined) return checkTokenEndpoint(settings.idpTokenUrl);
    const provider = identityProviderOf(deps.routes().config, settings);
    if (!provider) return;
    const { token_endpoint: url } = await deps.discovery.metadata(route, provider.issuer, onStep);
    if (url === undefined)
      throw new UpstreamOAuthError("metadata_invalid", `${provider.issuer} has no token endpoint`);
    await checkTokenEndpoint(url);
  },
});

/** The provider of `idp_client_id`, where the user must have signed in. */
async function identityProvider(
  deps: NonInteractiveDeps,
  route: Route,
  settings: IdJagSettings,
  userId: string,
): Promise<{ issuer: string; tokenEndpoint: string }> {
  if (settings.idpTokenUrl) {
    return { issuer: new URL(settings.idpTokenUrl).origin, tokenEndpoint: settings.idpTokenUrl };
  }
  const provider = identityProviderOf(deps.routes().config, settings);
  if (!provider || !userId.startsWith(`${provider.id}/`)) {
    throw new UpstreamOAuthError(
      "sign_in_token_missing",
      "the caller did not sign in at the provider that knows idp_client_id",
    );
  }
  const as = await deps.discovery.metadata(route, provider.issuer);
  if (as.token_endpoint) return { issuer: as.issuer, tokenEndpoint: as.token_endpoint };
  throw new UpstreamOAuthError("metadata_invalid", `${as.issuer} has no token endpoint`);
}
