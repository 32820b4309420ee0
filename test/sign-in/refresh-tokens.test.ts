import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { registeredApp } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";

describe("the provider's tokens are refreshed before a recheck is due", () => {
  let stack: AuthorizationServerStack;
  beforeAll(async () => {
    stack = await startAuthorizationServer();
  });
  afterAll(() => stack.close());
  beforeEach(async () => {
    stack.company.outage(undefined);
    await (await registeredApp(stack)).tokens(stack.browser(), "alice");
  });
  const stored = async (userId = "company/alice") => {
    const session = await stack.store.signInSessions.find(userId);
    if (!session) throw new Error(`${userId} has not signed in`);
    return session;
  };
  const asked = () => stack.company.counts.tokens.refresh_token ?? 0;

  test("once for concurrent requests of all replicas; later requests get the stored tokens", async () => {
    const [before, count] = [await stored(), asked()];
    const [second, third] = [await stack.replica(), await stack.replica()];
    const replicas = [stack, stack, second, third];
    const outcomes = await Promise.all(replicas.map(({ signIn }) => signIn.refreshTokens(before)));
    expect(outcomes).toEqual(["ok", "ok", "ok", "ok"]);
    const after = await stored();
    expect(after.accessToken).not.toBe(before.accessToken);
    expect(after.accessTokenExpiresAt).toBeGreaterThan(Date.now() / 1000);
    expect(await stack.signIn.refreshTokens(before)).toBe("ok");
    expect(asked() - count).toBe(1);
    expect(await stack.signIn.refreshTokens(after)).toBe("ok");
    for (const replica of [third, second]) await replica.close();
  });

  test("not while another replica asks: its answer is used", async () => {
    const [before, count] = [await stored(), asked()];
    const { userId, checkedAt } = before;
    // Half of the recheck interval is left, so this is not an expired claim.
    await stack.store.signInSessions.claimCheck(userId, checkedAt, new Date(Date.now() - 1_800_000));
    const waiting = stack.signIn.refreshTokens(before);
    await stack.store.signInSessions.put({ ...before, tokensAt: Date.now(), checkedAt: new Date() });
    expect(await waiting).toBe("ok");
    expect(asked() - count).toBe(0);
  });

  test("after waiting for a running recheck", async () => {
    await stack.ageSignIn("company/alice", 3700);
    const [before, count] = [await stored(), asked()];
    const other = await stack.replica();
    expect(
      await Promise.all([stack.signIn.recheck("company/alice"), other.signIn.refreshTokens(before)]),
    ).toEqual(["ok", "ok"]);
    expect(asked() - count).toBe(1);
    expect((await stored()).accessToken).not.toBe(before.accessToken);
    await other.close();
  });

  test("not while the provider is down, but immediately afterwards", async () => {
    const before = await stored();
    stack.company.outage(503);
    expect(await stack.signIn.refreshTokens(before)).toBe("unavailable");
    expect(await stored()).toEqual(before);
    stack.company.outage(undefined);
    expect(await stack.signIn.refreshTokens(before)).toBe("ok");
  });

  test("not without a refresh token", async () => {
    const { refreshToken: _, ...without } = await stored();
    await stack.store.signInSessions.put(without);
    expect(await stack.signIn.refreshTokens(without)).toBe("sign_in_again");
  });

  test("without one, a sign-in is valid for sign_in.session_ttl, whatever sign_in.recheck is", async () => {
    const { refreshToken: _, ...without } = await stored();
    await stack.store.signInSessions.put(without);
    const [count, hours] = [asked(), 3600];
    await stack.ageSignIn("company/alice", 13.9 * hours);
    expect(await stack.signIn.recheck("company/alice")).toBe("ok");
    await stack.ageSignIn("company/alice", 14.1 * hours);
    expect(await stack.signIn.recheck("company/alice")).toBe("sign_in_again");
    expect(asked() - count).toBe(0);
  });

  test("a rejection ends the user's access, as in a recheck", async () => {
    await (await registeredApp(stack)).tokens(stack.browser(), "bob");
    const before = await stored("company/bob");
    stack.company.dismiss("bob");
    expect(await stack.signIn.refreshTokens(before)).toBe("rejected");
    expect(stack.gone).toEqual(["company/bob"]);
    expect(await stack.store.signInSessions.find("company/bob")).toBeUndefined();
  });
});
