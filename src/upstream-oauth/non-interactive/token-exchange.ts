import { endpointUrl } from "../../config/paths.ts";
import type { TokenExchangeSettings } from "../../config/upstream-auth/token-exchange.ts";
import { UpstreamOAuthError } from "../errors.ts";
import { requestToken } from "../token-endpoint.ts";
import type { TokenSubject } from "../upstream-oauth.ts";
import {
  grantTypes,
  type NonInteractiveDeps,
  nonInteractiveGrant,
  requestAt,
  signInToken,
  tokenType,
  toToken,
} from "./grant.ts";

/** RFC 8693. */
export const tokenExchange = nonInteractiveGrant<TokenExchangeSettings>({
  async obtain(deps, { route, auth, settings, subject, source: found }) {
    const { audience } = settings;
    const source = {
      ...found,
      resource: audience ? undefined : endpointUrl(route),
      scopes: auth.scopes ?? [],
    };
    const subjectToken = await subjectTokenOf(deps, settings, subject);
    const answer = await requestToken({
      ...requestAt(deps, route, source, auth),
      grantType: grantTypes.tokenExchange,
      parameters: {
        subject_token: subjectToken.value,
        subject_token_type: tokenType(subjectToken.type),
        requested_token_type: tokenType("access_token"),
        audience,
        resource: source.resource,
        scope: auth.scopes?.join(" "),
      },
    });
    return toToken(route, subject, source, auth.clientId, answer, source.scopes);
  },
});

async function subjectTokenOf(
  deps: NonInteractiveDeps,
  { subjectToken }: TokenExchangeSettings,
  { userId, externalToken }: TokenSubject,
): Promise<{ readonly value: string; readonly type: "access_token" | "id_token" }> {
  switch (subjectToken) {
    case "external_token":
      if (externalToken) return { value: externalToken, type: "access_token" };
      throw new UpstreamOAuthError("sign_in_token_missing", "the user has no token to exchange");
    case "sign_in_id_token":
      return { value: await signInToken(deps, userId, "idToken"), type: "id_token" };
    case "sign_in_access_token":
      return { value: await signInToken(deps, userId, "accessToken"), type: "access_token" };
    default:
      throw subjectToken satisfies never;
  }
}
