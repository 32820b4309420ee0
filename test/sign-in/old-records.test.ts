import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { SignInProvider } from "../../src/config/config.ts";
import { migrateOldRecord } from "../../src/sign-in/providers.ts";
import { encryption } from "../../src/store/encryption/encryption.ts";
import { createPeople } from "../../src/store/people.ts";
import type { SignInSession } from "../../src/store/sign-in-sessions.ts";
import { registeredApp } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";
import { backends, makeKeys } from "../store/backends.ts";
import type { HttpBrowser } from "../support/http-browser.ts";

const userId = "company/alice";
const ceo = "ceo@example.com";
/** From a version that treated every address as verified; `email_verified` is about another address, from userinfo. */
const old: SignInSession = {
  ...{ userId, providerId: "company", subject: "alice", name: "Alice", groups: ["staff"] },
  ...{ email: ceo, claims: { sub: "alice", email: ceo, email_verified: true, employment: "staff" } },
  ...{ checkedAt: new Date(), emailUnchecked: true },
};

describe("a sign-in record from before the upgrade", () => {
  const provider: SignInProvider = {
    ...{ id: "company", name: "Company", issuer: "https://id.test", clientId: "c", scopes: [] },
    authorizationUrlParams: {},
    claims: { user: "sub", email: "email", name: "name", groups: "groups" },
  };
  const judged = (source: Partial<SignInProvider>, record: Partial<SignInSession> = {}) =>
    migrateOldRecord({ ...old, ...record }, [{ ...provider, ...source }]);

  test.each<[string, Partial<SignInProvider>, Partial<SignInSession>]>([
    ["without email_verified", {}, {}],
    ["of another domain than the provider's", { emailDomains: ["example.org"] }, {}],
    [
      "that is explicitly not verified",
      { trustEmail: true },
      { claims: { email: ceo, email_verified: "no" } },
    ],
    ["of a removed provider", { id: "another", trustEmail: true }, {}],
  ])("loses an address %s, wherever it stood, and nothing else", (_, source, record) => {
    const left = judged(source, record);
    expect(left).toMatchObject({ userId, name: "Alice", groups: ["staff"], emailUnchecked: true });
    expect(JSON.stringify(left)).not.toContain(ceo);
    if (!record.claims) expect(left?.claims.employment).toBe("staff");
  });

  test("keeps an address that the operator vouches for", () => {
    for (const source of [{ trustEmail: true }, { emailDomains: ["example.com"] }])
      expect(judged(source)).toMatchObject({ email: ceo, claims: { email: ceo } });
  });

  test("is ignored if the user is identified by such an address", () => {
    const claims = { ...provider.claims, user: "email" };
    expect(judged({ claims })).toBeUndefined();
    expect(judged({ claims, trustEmail: true })).toMatchObject({ email: ceo });
  });

  test("is distinguished from a new record, even if a replica of the earlier version has copied the new one", async () => {
    const backend = await backends.postgres();
    const store = await backend.open({ migratePerson: () => undefined });
    const { emailUnchecked: _, ...today } = { ...old, tokensAt: 1 };
    await store.signInSessions.put(today);
    expect(await store.signInSessions.find(userId)).toEqual(today);
    const { encrypt, decrypt } = encryption(await makeKeys("k1"));
    const [row] = await backend.query("select sealed from sign_in_session");
    const part = await decrypt<object>("sign_in_session", [userId], String(row?.sealed));
    const { sealed } = await encrypt("sign_in_session", [userId], { ...part, tokensAt: 2 });
    await backend.query(`update sign_in_session set sealed = '${sealed}'`);
    expect(await store.signInSessions.find(userId)).toBeUndefined();
    await store.close();
    await backend.close();
  });

  describe("with a running sign-in", () => {
    let stack: AuthorizationServerStack;
    beforeAll(async () => {
      stack = await startAuthorizationServer();
    });
    afterAll(() => stack.close());

    const whoami = async (browser: HttpBrowser) =>
      JSON.parse((await browser.open("https://auth.test/whoami")).html);
    const asked = () => stack.company.counts.tokens.refresh_token ?? 0;
    async function becomeOld(): Promise<void> {
      const record = await stack.store.signInSessions.find(userId);
      await stack.store.signInSessions.put({ ...record, ...old, checkedAt: new Date() });
    }

    test("its address gives no access until the recheck, which happens immediately and once", async () => {
      const browser = stack.browser();
      await (await registeredApp(stack)).tokens(browser, "alice");
      const own = (await whoami(browser)).email;
      expect(own).toMatch(/^alice@/);
      await becomeOld();
      const people = createPeople({ store: stack.store, limits: { entries: 10, bytes: 1024 * 1024 } });
      expect(JSON.stringify(await people.read(userId))).not.toContain(ceo);
      const before = asked();
      expect(await stack.signIn.recheck(userId)).toBe("ok");
      expect(await people.read(userId)).toMatchObject({ email: own });
      expect(await stack.signIn.recheck(userId)).toBe("ok");
      expect(asked() - before).toBe(1);
      people.close();
    });

    test("two replicas do not both use the refresh token, which may be single-use", async () => {
      await (await registeredApp(stack)).tokens(stack.browser(), "alice");
      await becomeOld();
      const record = await stack.store.signInSessions.find(userId);
      // As a replica does that is rechecking now.
      const leased = new Date(Date.now() - 3600_000 + 30_000);
      expect(record && (await stack.store.signInSessions.claimCheck(userId, record.checkedAt, leased))).toBe(
        true,
      );
      const before = asked();
      expect(await stack.signIn.recheck(userId)).toBe("ok");
      expect(asked()).toBe(before);
    });

    test("a browser request causes a recheck", async () => {
      const browser = stack.browser();
      await (await registeredApp(stack)).tokens(browser, "alice");
      const { email } = await whoami(browser);
      await becomeOld();
      const answers: string[] = [];
      await expect
        .poll(
          async () => {
            const answer = await whoami(browser);
            answers.push(JSON.stringify(answer));
            return (await stack.store.signInSessions.find(userId))?.emailUnchecked ?? answer.email;
          },
          { timeout: 60_000 },
        )
        .toBe(email);
      expect(answers.join("")).not.toContain(ceo);
    });
  });
});
