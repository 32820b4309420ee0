import { type Claims, claimAt, withoutClaims } from "./claims.ts";

/** Whose word an address is, and how far it goes. */
export interface EmailSource {
  readonly claims: { readonly user: string; readonly email: string };
  /** Addresses count although `email_verified` is missing. */
  readonly trustEmail?: boolean;
  /** Addresses of these domains count although it is missing, and none of another domain does. */
  readonly emailDomains?: readonly string[];
}

const standard = "email";
const verdict = "email_verified";

/**
 * The one rule on which e-mail addresses count, for sign-in providers and trusted issuers alike. One counts if `email_verified` is
 * the boolean true; or if that claim is missing and the operator vouches for the source (`trust_email`) or for the address's
 * domain (`email_domains`). Any other value of `email_verified`, "true" as text included, means not verified.
 * @returns the address, and the claims without any address that does not count; `unusable` where the user id itself would be one
 */
export function verifiedEmail(
  claims: Claims,
  source: EmailSource,
): { readonly email?: string; readonly claims: Claims; readonly unusable: boolean } {
  const name = source.claims.email;
  const [mapped, plain] = [claimAt(claims, name), claimAt(claims, standard)];
  const verified = Object.hasOwn(claims, verdict) ? claims[verdict] === true : undefined;
  const counts = (address: unknown, word: boolean | undefined): address is string =>
    isText(address) && isTaken(address, word, source);
  // `email_verified` speaks of `email`: it vouches for no other claim's address.
  const wordOnMapped =
    verified && name !== standard && plain !== undefined && plain !== mapped ? undefined : verified;
  const uncounted = [
    ...(counts(mapped, wordOnMapped) ? [] : [name]),
    ...(counts(plain, verified) ? [] : [standard]),
  ];
  const kept = withoutClaims(claims, uncounted);
  return {
    email: counts(mapped, wordOnMapped) ? mapped : undefined,
    claims: verified === undefined ? kept : { ...kept, [verdict]: verified },
    unusable: uncounted.includes(source.claims.user),
  };
}

function isTaken(address: string, verified: boolean | undefined, source: EmailSource): boolean {
  const { trustEmail = false, emailDomains } = source;
  const listed = emailDomains?.includes(domainOf(address)) ?? false;
  if (emailDomains && !listed) return false;
  return verified ?? (trustEmail || listed);
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}

/** Only an address with a single `@` has a domain; others are quoted oddities that parsers split differently. */
function domainOf(address: string): string {
  const [, domain = "", ...more] = address.split("@");
  return more.length > 0 ? "" : domain.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}
