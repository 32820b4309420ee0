import { withoutClaims } from "../config/claims.ts";
import type { SignInProvider } from "../config/config.ts";
import { verifiedEmail } from "../config/verified-email.ts";
import type { SignInSession } from "../store/store.ts";

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
