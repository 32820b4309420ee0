/** What a provider or an issuer says, by claim name. */
export type Claims = Readonly<Record<string, unknown>>;

/** A claim by its name; where there is none of that name, slashes descend (`kubernetes.io/serviceaccount/name`). */
export function claimAt(claims: Claims, name: string): unknown {
  if (Object.hasOwn(claims, name)) return claims[name];
  let value: unknown = claims;
  for (const part of name.split("/")) {
    if (!isRecord(value) || !Object.hasOwn(value, part)) return undefined;
    value = value[part];
  }
  return value;
}

/** The same claims without what `claimAt` finds under any of these names. */
export function withoutClaims(claims: Claims, names: readonly string[]): Claims {
  return names.reduce(
    (left, name) => (Object.hasOwn(left, name) ? without(left, [name]) : without(left, name.split("/"))),
    claims,
  );
}

function without(claims: Claims, [first = "", ...rest]: readonly string[]): Claims {
  if (!Object.hasOwn(claims, first)) return claims;
  const { [first]: found, ...left } = claims;
  if (rest.length === 0) return left;
  return isRecord(found) ? { ...left, [first]: without(found, rest) } : claims;
}

/** Claims of a token rather than of whom it is about. */
const tokenClaims = new Set([
  ...["iss", "aud", "exp", "iat", "nbf", "jti", "nonce", "cnf"],
  ...["at_hash", "c_hash", "s_hash"],
]);

/** What is left for policy of a token's claims. */
export function withoutTokenClaims(claims: Claims): Record<string, unknown> {
  return Object.fromEntries(Object.entries(claims).filter(([name]) => !tokenClaims.has(name)));
}

/** Groups as texts: a list or a single one, numbers too. What was dropped here would escape a deny rule. */
export function groupsOf(value: unknown): string[] {
  return [value]
    .flat()
    .flatMap((group) => (typeof group === "string" || typeof group === "number" ? [String(group)] : []));
}

/**
 * Whether claims say that somebody has a claim which is not among them: `_claim_names` (OpenID Connect Core section 5.6.2), as Microsoft
 * Entra ID sends for people in more than 200 groups, or its `hasgroups`. What it holds is unknown, which is not the same as nothing.
 */
export function isWithheld(claims: Claims, name: string): boolean {
  const { _claim_names: names, hasgroups } = claims;
  if (names === undefined && hasgroups === undefined) return false;
  if (!isEmpty(claimAt(claims, name))) return false;
  const [first = name] = name.split("/");
  if (isRecord(names) && (Object.hasOwn(names, name) || Object.hasOwn(names, first))) return true;
  return name === "groups" && ["true", "1"].includes(String(hasgroups).toLowerCase());
}

/** Whether somebody is in groups of which the provider says only that there are some: policy's name of them is `groups`. */
export function hasWithheldGroups(person: {
  readonly groups: readonly string[];
  readonly claims: Claims;
}): boolean {
  return person.groups.length === 0 && isWithheld(person.claims, "groups");
}

/** The same claims with what is withheld of the claim that holds somebody's groups noted under `groups`, which is policy's name of them. */
export function withWithheldGroups<C extends Claims>(claims: C, groupsClaim: string): C {
  if (groupsClaim === "groups" || !isWithheld(claims, groupsClaim)) return claims;
  const names = isRecord(claims._claim_names) ? claims._claim_names : {};
  return { ...claims, _claim_names: { ...names, groups: names[groupsClaim] } };
}

/** Null, "" and an empty list say as little as a missing claim, where another says that there is one. */
function isEmpty(value: unknown): boolean {
  return (
    value === undefined || value === null || value === "" || (Array.isArray(value) && value.length === 0)
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

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
