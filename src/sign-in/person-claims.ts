import { decodeJwt } from "jose";
import {
  type Configuration,
  fetchUserInfo,
  type TokenEndpointResponse,
  type TokenEndpointResponseHelpers,
} from "openid-client";
import {
  type Claims,
  claimAt,
  groupsOf,
  verifiedEmail,
  withoutClaims,
  withoutTokenClaims,
  withWithheldGroups,
} from "../config/claims.ts";
import type { SignInProvider } from "../config/config.ts";
import type { SignInSession } from "../store/sign-in-sessions.ts";

type Tokens = TokenEndpointResponse & TokenEndpointResponseHelpers;

/** A provider's claims about a user, at sign-in and at rechecks. */
export interface PersonClaims {
  /** Undefined if there are no new claims. */
  readonly claims?: Claims;
  /** The ID token is for another user and is ignored. */
  readonly anotherSubject?: true;
}

/**
 * The claims of a token response. The ID token takes precedence over userinfo. An e-mail address and its `email_verified` always come
 * from the same source. Without an ID token (OpenID Connect Core section 12.2 lets a refresh omit it), userinfo updates the last ID
 * token, except for its e-mail claims.
 * @param known.subject `sub` that the response must be about, whichever claim identifies users
 * @throws openid-client's errors, if userinfo is unavailable or about another user
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

/** `claims` without the e-mail claims if `first` has any. */
function withoutEmail(claims: Claims, provider: Pick<SignInProvider, "claims">, first: Claims): Claims {
  const names = [provider.claims.email, "email", "email_verified"];
  return names.some((name) => claimAt(first, name) !== undefined) ? withoutClaims(claims, names) : claims;
}

/** A user, mapped from a provider's claims. */
export interface Identity {
  readonly userId: string;
  readonly subject: string;
  readonly email?: string;
  readonly name?: string;
  readonly groups: readonly string[];
  readonly claims: Record<string, unknown>;
}

/**
 * Maps claims according to the provider's `claims` setting. Unverified e-mail addresses are dropped.
 * @returns undefined if the claim that identifies the user is missing or is an unverified address: anyone who can set an address
 * there could sign in as another user.
 */
export function identityFromClaims(provider: SignInProvider, said: Claims): Identity | undefined {
  const { email, claims, unusable } = verifiedEmail(said, provider);
  const subject = unusable ? undefined : claims[provider.claims.user];
  if ((typeof subject !== "string" && typeof subject !== "number") || subject === "") return undefined;
  return {
    userId: `${provider.id}/${subject}`,
    subject: String(subject),
    email,
    name: text(claims[provider.claims.name]),
    groups: groupsOf(claims[provider.claims.groups]),
    claims: withWithheldGroups(withoutTokenClaims(withoutClaims(claims, ["azp"])), provider.claims.groups),
  };
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/**
 * Reduces a record of an older version to its verified claims. That version treated addresses as verified unless the provider denied it,
 * and could combine an address and its `email_verified` from two sources. `email_verified` is therefore ignored, while `trust_email` and
 * `email_domains` apply. The record stays marked until a recheck or the next sign-in replaces it.
 * @returns undefined if the user is identified by an unverified address and has to sign in again
 */
export function judgeOldRecord(
  record: SignInSession,
  providers: readonly SignInProvider[],
): SignInSession | undefined {
  const { email: _unverified, ...rest } = record;
  const source = providers.find(({ id }) => id === record.providerId) ?? {
    claims: { user: "sub", email: "email" },
  };
  const verified = record.claims.email_verified;
  const said = verified === true ? withoutClaims(record.claims, ["email_verified"]) : record.claims;
  const { email, claims, unusable } = verifiedEmail(said, source);
  if (unusable) return undefined;
  return { ...rest, ...(email !== undefined && { email }), claims };
}
