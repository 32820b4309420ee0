import {
  type Claims,
  groupsOf,
  withoutClaims,
  withoutTokenClaims,
  withWithheldGroups,
} from "../config/claims.ts";
import type { SignInProvider } from "../config/config.ts";
import { verifiedEmail } from "../config/verified-email.ts";

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
