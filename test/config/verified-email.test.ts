import { describe, expect, test } from "vitest";
import { type EmailSource, verifiedEmail } from "../../src/config/claims.ts";

const claims = { user: "sub", email: "email" };
const address = "Ann@Example.com";
const read = (said: Record<string, unknown>, more: Partial<EmailSource> = {}) => {
  const { email, claims: left } = verifiedEmail({ sub: "a", ...said }, { claims, ...more });
  return [email, left.email];
};
const taken = [address, address];
const nothing = [undefined, undefined];

describe("an e-mail address is trusted", () => {
  test("if email_verified is the boolean true, and no similar value", () => {
    expect(read({ email: address, email_verified: true })).toEqual(taken);
    for (const email_verified of [false, "true", "false", 0, 1, null, undefined, [true], {}]) {
      expect(read({ email: address, email_verified }), String(email_verified)).toEqual(nothing);
      // No setting overrides an explicit value of the provider.
      expect(read({ email: address, email_verified }, { trustEmail: true })).toEqual(nothing);
    }
  });

  test("without email_verified, if the operator trusts the source or the exact domain", () => {
    expect(read({ email: address })).toEqual(nothing);
    expect(read({ email: address }, { trustEmail: false })).toEqual(nothing);
    expect(read({ email: address }, { trustEmail: true })).toEqual(taken);
    expect(read({ email: address }, { emailDomains: ["example.com"] })).toEqual(taken);
    for (const domain of ["ample.com", "com", "sub.example.com", "example.com.evil.test"])
      expect(read({ email: address }, { emailDomains: [domain] })).toEqual(nothing);
    for (const email of ["a@evil.test@example.com", "example.com", "@", "a@sub.example.com", ""])
      expect(read({ email }, { emailDomains: ["example.com"] })).toEqual([undefined, undefined]);
  });

  test("and never outside email_domains, verified or not", () => {
    const email = "ann@elsewhere.test";
    expect(read({ email, email_verified: true }, { emailDomains: ["example.com"] })).toEqual(nothing);
    expect(read({ email }, { emailDomains: ["example.com"], trustEmail: true })).toEqual(nothing);
  });

  test("in another claim, only if it is the verified address", () => {
    const mail = { claims: { user: "sub", email: "mail" } };
    const of = (said: Record<string, unknown>, more = {}) => {
      const { email, claims: left } = verifiedEmail(said, { ...mail, ...more });
      return [email, left.mail, left.email];
    };
    expect(of({ mail: "ceo@example.com", email: "me@example.com", email_verified: true })).toEqual([
      undefined,
      undefined,
      "me@example.com",
    ]);
    expect(of({ mail: address, email: address, email_verified: true })).toEqual([address, address, address]);
    expect(of({ mail: address, email_verified: true })).toEqual([address, address, undefined]);
    expect(of({ mail: address, email_verified: false })).toEqual([undefined, undefined, undefined]);
    expect(of({ mail: address }, { trustEmail: true })).toEqual([address, address, undefined]);
  });

  test("in a nested claim likewise, and it is removed if not", () => {
    const nested = { claims: { user: "sub", email: "contact/email" } };
    const said = { contact: { email: address, phone: "1" } };
    expect(verifiedEmail(said, nested)).toMatchObject({
      email: undefined,
      claims: { contact: { phone: "1" } },
    });
    expect(verifiedEmail(said, nested).claims.contact).not.toHaveProperty("email");
    expect(verifiedEmail(said, { ...nested, trustEmail: true }).email).toBe(address);
  });

  test("otherwise it cannot identify a user", () => {
    for (const name of ["email", "upn"]) {
      const source = { claims: { user: name, email: name } };
      expect(verifiedEmail({ [name]: address }, source).unusable).toBe(true);
      expect(verifiedEmail({ [name]: address, email_verified: true }, source).unusable).toBe(false);
    }
  });

  test("email_verified is always a boolean for policy", () => {
    for (const email_verified of ["false", "true", 0, null])
      expect(verifiedEmail({ email_verified }, { claims }).claims).toMatchObject({ email_verified: false });
  });
});
