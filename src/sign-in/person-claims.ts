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

/** A person as mapped from a provider's claims. */
export interface Identity {
  readonly userId: string;
  readonly subject: string;
  readonly email?: string;
  readonly name?: string;
  readonly groups: readonly string[];
  readonly claims: Record<string, unknown>;
}

/**
 * Maps claims as the provider's `claims` setting says. An e-mail address that does not count is nowhere in it.
 * @returns undefined when the claim that names the user is missing, or is an address that does not count: whoever may write any
 * address there could sign in as anybody.
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
 * What counts of a record by a version that took every address for verified which the provider did not say the opposite of, and put
 * an address and a word on it together that came from two answers. That word counts for nothing here; the operator's
 * (`trust_email`, `email_domains`) does. The record stays marked, and so is due for a recheck: that, or the next sign-in, brings a
 * record of today.
 * @returns undefined where the person is known by an address that does not count: who it is, a sign-in has to say
 */
export function judgeOldRecord(
  record: SignInSession,
  providers: readonly SignInProvider[],
): SignInSession | undefined {
  const { email: _unverified, ...rest } = record;
  const source = providers.find(({ id }) => id === record.providerId) ?? {
    claims: { user: "sub", email: "email" },
  };
  const word = record.claims.email_verified;
  const said = word === true ? withoutClaims(record.claims, ["email_verified"]) : record.claims;
  const { email, claims, unusable } = verifiedEmail(said, source);
  if (unusable) return undefined;
  return { ...rest, ...(email !== undefined && { email }), claims };
}
