/** Claims of a provider or an issuer, by name. */
export type Claims = Readonly<Record<string, unknown>>;

/** A claim by name; if there is none, slashes descend into objects (`kubernetes.io/serviceaccount/name`). */
export function claimAt(claims: Claims, name: string): unknown {
  if (Object.hasOwn(claims, name)) return claims[name];
  let value: unknown = claims;
  for (const part of name.split("/")) {
    if (!isRecord(value) || !Object.hasOwn(value, part)) return undefined;
    value = value[part];
  }
  return value;
}

/** The claims without those that `claimAt` finds under these names. */
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

/** Claims about a token, not its subject. */
const tokenClaims = new Set([
  ...["iss", "aud", "exp", "iat", "nbf", "jti", "nonce", "cnf"],
  ...["at_hash", "c_hash", "s_hash"],
]);

/** Whether a claim is about a token, not about its subject. */
export function isTokenClaim(name: string): boolean {
  return tokenClaims.has(name);
}

/** The claims of a token that policy may use. */
export function withoutTokenClaims(claims: Claims): Record<string, unknown> {
  return Object.fromEntries(Object.entries(claims).filter(([name]) => !tokenClaims.has(name)));
}

/** Groups as strings: a list or a single one, including numbers. A dropped group would escape a deny rule. */
export function groupsOf(value: unknown): string[] {
  return [value]
    .flat()
    .flatMap((group) => (typeof group === "string" || typeof group === "number" ? [String(group)] : []));
}

/**
 * Whether a claim exists but is not included: `_claim_names` (OpenID Connect Core section 5.6.2), which Microsoft Entra ID sends for
 * users in more than 200 groups, or its `hasgroups`. The value is unknown, which is not the same as empty.
 */
export function isWithheld(claims: Claims, name: string): boolean {
  const { _claim_names: names, hasgroups } = claims;
  if (names === undefined && hasgroups === undefined) return false;
  if (!isEmpty(claimAt(claims, name))) return false;
  const [first = name] = name.split("/");
  if (isRecord(names) && (Object.hasOwn(names, name) || Object.hasOwn(names, first))) return true;
  return name === "groups" && ["true", "1"].includes(String(hasgroups).toLowerCase());
}

/** Whether a user is in groups that the provider does not list; policy calls them `groups`. */
export function hasWithheldGroups(person: {
  readonly groups: readonly string[];
  readonly claims: Claims;
}): boolean {
  return person.groups.length === 0 && isWithheld(person.claims, "groups");
}

/** The claims, with a withheld groups claim also recorded as `groups`, its name in policy. */
export function withWithheldGroups<C extends Claims>(claims: C, groupsClaim: string): C {
  if (groupsClaim === "groups" || !isWithheld(claims, groupsClaim)) return claims;
  const names = isRecord(claims._claim_names) ? claims._claim_names : {};
  return { ...claims, _claim_names: { ...names, groups: names[groupsClaim] } };
}

/** Null, "" and an empty list count as missing if another claim says that there is a value. */
function isEmpty(value: unknown): boolean {
  return (
    value === undefined || value === null || value === "" || (Array.isArray(value) && value.length === 0)
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A source of e-mail addresses, and how far it is trusted. */
export interface EmailSource {
  readonly claims: { readonly user: string; readonly email: string };
  /** Trust addresses without `email_verified`. */
  readonly trustEmail?: boolean;
  /** Trust addresses of these domains without `email_verified`, and none of other domains. */
  readonly emailDomains?: readonly string[];
}

const standard = "email";
const verifiedClaim = "email_verified";

/**
 * Decides which e-mail addresses are trusted, for sign-in providers and trusted issuers. An address is trusted if `email_verified` is
 * the boolean true, or if that claim is missing and the operator trusts the source (`trust_email`) or the address's domain
 * (`email_domains`). Any other value of `email_verified`, including the string "true", means not verified.
 * @returns the address, and the claims without untrusted addresses; `unusable` if the user id is an untrusted address
 */
export function verifiedEmail(
  claims: Claims,
  source: EmailSource,
): { readonly email?: string; readonly claims: Claims; readonly unusable: boolean } {
  const name = source.claims.email;
  const [mapped, plain] = [claimAt(claims, name), claimAt(claims, standard)];
  const verified = Object.hasOwn(claims, verifiedClaim) ? claims[verifiedClaim] === true : undefined;
  const isTrusted = (address: unknown, verified: boolean | undefined): address is string =>
    isText(address) && isAccepted(address, verified, source);
  // `email_verified` applies to `email`, not to the address of another claim.
  const verifiedMapped =
    verified && name !== standard && plain !== undefined && plain !== mapped ? undefined : verified;
  const untrusted = [
    ...(isTrusted(mapped, verifiedMapped) ? [] : [name]),
    ...(isTrusted(plain, verified) ? [] : [standard]),
  ];
  const kept = withoutClaims(claims, untrusted);
  return {
    email: isTrusted(mapped, verifiedMapped) ? mapped : undefined,
    claims: verified === undefined ? kept : { ...kept, [verifiedClaim]: verified },
    unusable: untrusted.includes(source.claims.user),
  };
}

function isAccepted(address: string, verified: boolean | undefined, source: EmailSource): boolean {
  const { trustEmail = false, emailDomains } = source;
  const listed = emailDomains?.includes(domainOf(address)) ?? false;
  if (emailDomains && !listed) return false;
  return verified ?? (trustEmail || listed);
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}

/** Only for addresses with a single `@`: parsers split others (quoted local parts) differently. */
function domainOf(address: string): string {
  const [, domain = "", ...more] = address.split("@");
  return more.length > 0 ? "" : domain.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}
