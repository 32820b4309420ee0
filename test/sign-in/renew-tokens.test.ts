import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { registeredApp } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";

describe("the provider's tokens are refreshed before a recheck is due", () => {
  let house: AuthorizationServerStack;
  beforeAll(async () => {
    house = await startAuthorizationServer();
  });
  afterAll(() => house.close());
  beforeEach(async () => {
    house.company.outage(undefined);
    await (await registeredApp(house)).tokens(house.browser(), "alice");
  });
  const stored = async (userId = "company/alice") => {
    const session = await house.store.signInSessions.find(userId);
    if (!session) throw new Error(`${userId} has not signed in`);
    return session;
  };
  const asked = () => house.company.counts.tokens.refresh_token ?? 0;

  test("once for concurrent requests of all replicas; later requests get the stored tokens", async () => {
    const [before, count] = [await stored(), asked()];
    const [second, third] = [await house.replica(), await house.replica()];
    const replicas = [house, house, second, third];
    const outcomes = await Promise.all(replicas.map(({ signIn }) => signIn.renewTokens(before)));
    expect(outcomes).toEqual(["ok", "ok", "ok", "ok"]);
    const after = await stored();
    expect(after.accessToken).not.toBe(before.accessToken);
    expect(after.accessTokenExpiresAt).toBeGreaterThan(Date.now() / 1000);
    expect(await house.signIn.renewTokens(before)).toBe("ok");
    expect(asked() - count).toBe(1);
    expect(await house.signIn.renewTokens(after)).toBe("ok");
    for (const replica of [third, second]) await replica.close();
  });

  test("not while another replica asks: its answer is used", async () => {
    const [before, count] = [await stored(), asked()];
    const { userId, checkedAt } = before;
    // Half of the recheck interval is left, so this is not an expired claim.
    await house.store.signInSessions.claimCheck(userId, checkedAt, new Date(Date.now() - 1_800_000));
    const waiting = house.signIn.renewTokens(before);
    await house.store.signInSessions.put({ ...before, tokensAt: Date.now(), checkedAt: new Date() });
    expect(await waiting).toBe("ok");
    expect(asked() - count).toBe(0);
  });

  test("after waiting for a running recheck", async () => {
    await house.ageSignIn("company/alice", 3700);
    const [before, count] = [await stored(), asked()];
    const other = await house.replica();
    expect(
      await Promise.all([house.signIn.recheck("company/alice"), other.signIn.renewTokens(before)]),
    ).toEqual(["ok", "ok"]);
    expect(asked() - count).toBe(1);
    expect((await stored()).accessToken).not.toBe(before.accessToken);
    await other.close();
  });

  test("not while the provider is down, but immediately afterwards", async () => {
    const before = await stored();
    house.company.outage(503);
    expect(await house.signIn.renewTokens(before)).toBe("unavailable");
    expect(await stored()).toEqual(before);
    house.company.outage(undefined);
    expect(await house.signIn.renewTokens(before)).toBe("ok");
  });

  test("not without a refresh token", async () => {
    const { refreshToken: _, ...without } = await stored();
    await house.store.signInSessions.put(without);
    expect(await house.signIn.renewTokens(without)).toBe("sign_in_again");
  });

  test("a rejection ends the user's access, as in a recheck", async () => {
    await (await registeredApp(house)).tokens(house.browser(), "bob");
    const before = await stored("company/bob");
    house.company.dismiss("bob");
    expect(await house.signIn.renewTokens(before)).toBe("rejected");
    expect(house.gone).toEqual(["company/bob"]);
    expect(await house.store.signInSessions.find("company/bob")).toBeUndefined();
  });
});
