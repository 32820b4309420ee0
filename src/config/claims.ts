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

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
