import { decodeJwt } from "jose";
import {
  type Configuration,
  fetchUserInfo,
  type TokenEndpointResponse,
  type TokenEndpointResponseHelpers,
} from "openid-client";
import { type Claims, claimAt, withoutClaims } from "../config/claims.ts";
import type { SignInProvider } from "../config/config.ts";

type Tokens = TokenEndpointResponse & TokenEndpointResponseHelpers;

/** What a provider says of somebody, at sign-in and at every recheck alike. */
export interface PersonClaims {
  /** Undefined: it said nothing new. */
  readonly claims?: Claims;
  /** The ID token is about somebody else, so nothing in it counts. */
  readonly anotherSubject?: true;
}

/**
 * The claims of one token answer. The ID token's win over userinfo's, and an e-mail address comes with its `email_verified` from
 * one of them, never from both. An answer without an ID token (OpenID Connect Core 12.2 lets a refresh leave it out) counts as
 * news on top of the last one, whose word on e-mail stands.
 * @param known.subject `sub` that the answer must be about, whatever claim we know people by
 * @throws openid-client's errors, when userinfo cannot be had or is about somebody else
 */
export async function personClaims(
  client: Configuration,
  provider: Pick<SignInProvider, "claims">,
  tokens: Tokens,
  known: { readonly subject: string; readonly idToken?: string },
): Promise<PersonClaims> {
  const idClaims: Claims | undefined = tokens.claims();
  if (idClaims && idClaims.sub !== known.subject) return { anotherSubject: true };
  const userinfo: Claims | undefined = client.serverMetadata().userinfo_endpoint
    ? await fetchUserInfo(client, tokens.access_token, known.subject)
    : undefined;
  if (idClaims) return { claims: { ...withoutEmail(userinfo ?? {}, provider, idClaims), ...idClaims } };
  if (!userinfo) return {};
  const last: Claims = known.idToken === undefined ? {} : decodeJwt(known.idToken);
  return { claims: { ...last, ...withoutEmail(userinfo, provider, last) } };
}

/** `claims` without any word on e-mail where `first` has one. */
function withoutEmail(claims: Claims, provider: Pick<SignInProvider, "claims">, first: Claims): Claims {
  const names = [provider.claims.email, "email", "email_verified"];
  return names.some((name) => claimAt(first, name) !== undefined) ? withoutClaims(claims, names) : claims;
}
