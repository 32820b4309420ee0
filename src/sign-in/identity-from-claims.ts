import type { SignInProvider } from "../config/config.ts";

/** A person as mapped from a provider's claims. */
export interface Identity {
  readonly userId: string;
  readonly subject: string;
  readonly email?: string;
  readonly name?: string;
  readonly groups: readonly string[];
  readonly claims: Record<string, unknown>;
}

const protocolClaims = new Set([
  "iss",
  "aud",
  "exp",
  "iat",
  "nbf",
  "nonce",
  "at_hash",
  "c_hash",
  "s_hash",
  "azp",
  "jti",
]);

/** Maps claims as the provider's `claims` setting says; undefined when the claim that names the user is missing. */
export function identityFromClaims(
  provider: SignInProvider,
  claims: Readonly<Record<string, unknown>>,
): Identity | undefined {
  const subject = claims[provider.claims.user];
  if ((typeof subject !== "string" && typeof subject !== "number") || subject === "") return undefined;
  const groups = claims[provider.claims.groups];
  // An address the provider says it has not verified proves nothing, so no policy may go by it.
  const email = claims.email_verified === false ? undefined : claims[provider.claims.email];
  return {
    userId: `${provider.id}/${subject}`,
    subject: String(subject),
    email: text(email),
    name: text(claims[provider.claims.name]),
    groups: (Array.isArray(groups) ? groups : [groups]).filter((group) => typeof group === "string"),
    claims: Object.fromEntries(Object.entries(claims).filter(([name]) => !protocolClaims.has(name))),
  };
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
