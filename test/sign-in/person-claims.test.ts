import { SignJWT } from "jose";
import { Configuration, customFetch } from "openid-client";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { identityFromClaims, personClaims } from "../../src/sign-in/providers.ts";
import { registeredApp } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";

type Said = Record<string, unknown>;
const provider = {
  id: "company",
  name: "Company",
  issuer: "https://id.test",
  clientId: "c",
  scopes: [],
  authorizationUrlParams: {},
  claims: { user: "sub", email: "email", name: "name", groups: "groups" },
};

/** The identity from a token response. @param last the previous ID token, if the response has none */
async function known(idToken: Said | undefined, userinfo: Said | undefined, last?: Said) {
  const client = new Configuration(
    { issuer: "https://id.test", ...(userinfo && { userinfo_endpoint: "https://id.test/me" }) },
    "c",
  );
  client[customFetch] = async () => Response.json({ sub: "ann", ...userinfo });
  const tokens = { access_token: "t", claims: () => idToken && { sub: "ann", ...idToken } };
  const lastToken =
    last &&
    (await new SignJWT({ sub: "ann", ...last }).setProtectedHeader({ alg: "HS256" }).sign(Buffer.alloc(32)));
  const said = await personClaims(client, provider, tokens as never, { subject: "ann", idToken: lastToken });
  return said.claims && identityFromClaims(provider, said.claims);
}

describe("a provider's claims about a user", () => {
  test("userinfo never overrides the e-mail claims of the ID token", async () => {
    const ceo = "ceo@example.com";
    for (const [idToken, userinfo] of [
      [{ email: ceo }, { email_verified: true }],
      [{ email: ceo }, { email: "me@example.com", email_verified: true }],
      [
        { email: ceo, email_verified: false },
        { email: ceo, email_verified: true },
      ],
      [{ email_verified: true }, { email: ceo }],
      [{}, { email: ceo, email_verified: "true" }],
    ]) {
      const person = await known(idToken, userinfo);
      expect([person?.email, person?.claims.email]).toEqual([undefined, undefined]);
      // Nor if a later response has no ID token.
      expect((await known(undefined, userinfo, idToken))?.email).toBeUndefined();
    }
    const own = { email: "ann@example.com", email_verified: true };
    expect((await known(own, { email: ceo, email_verified: true }))?.email).toBe("ann@example.com");
    expect((await known(undefined, { email: ceo, email_verified: true }, own))?.email).toBe(
      "ann@example.com",
    );
    expect((await known({}, own))?.email).toBe("ann@example.com");
  });

  test("groups and claims of the ID token take precedence, userinfo adds others", async () => {
    const person = await known(
      { groups: ["a"], employment: "contractor" },
      { groups: ["b"], employment: "x", dept: "d" },
    );
    expect(person).toMatchObject({ groups: ["a"], claims: { employment: "contractor", dept: "d" } });
  });

  test("without an ID token, userinfo updates the claims and the last ID token's other claims are kept", async () => {
    const last = { groups: ["a"], employment: "contractor" };
    expect(await known(undefined, { groups: ["b"] }, last)).toMatchObject({
      groups: ["b"],
      claims: { employment: "contractor" },
    });
    expect(await known(undefined, undefined, last)).toBeUndefined();
  });
});

describe("a recheck", () => {
  let stack: AuthorizationServerStack;
  beforeAll(async () => {
    stack = await startAuthorizationServer();
  });
  afterAll(() => stack.close());

  test("a recheck answered about another subject is a rejection", async () => {
    // Users are identified by a claim that two subjects may share.
    await stack.reload((yaml) =>
      yaml.replace("      client_id: sidecar", "      client_id: sidecar\n      claims: {user: employment}"),
    );
    const alice = stack.company.accounts.find(({ login }) => login === "alice");
    if (alice) alice.more = { employment: "shared" };
    const app = await registeredApp(stack);
    await app.tokens(stack.browser(), "alice");
    const record = await stack.store.signInSessions.find("company/shared");
    if (!record) throw new Error("nobody signed in");
    // As if another subject with the same name had signed in.
    await stack.store.signInSessions.put({
      ...record,
      claims: { ...record.claims, sub: "somebody-else" },
      checkedAt: new Date(Date.now() - 7_200_000),
    });
    expect(await stack.signIn.recheck("company/shared")).toBe("rejected");
    expect(await stack.store.signInSessions.find("company/shared")).toBeUndefined();
  });
});
