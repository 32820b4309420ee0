import { decodeJwt } from "jose";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { makeKey } from "../../src/external-tokens/signing-keys.ts";
import { type McpApp, people, registeredApp, type Tokens } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";
import { upstreamToken } from "../store/samples.ts";
import { askForDelegation } from "../support/ask-for-delegation.ts";
import { rowsOf } from "../support/rows-of.ts";

const read = async (response: Response): Promise<Tokens> => {
  expect(response.status, await response.clone().text()).toBe(200);
  return (await response.json()) as Tokens;
};
const refused = async (response: Response) => {
  expect([response.status, Object(await response.json()).error]).toEqual([400, "invalid_grant"]);
};

describe("a refresh token used again right after its rotation, because the answer was lost", () => {
  let stack: AuthorizationServerStack;
  let app: McpApp;
  let tokens: Tokens;
  beforeAll(async () => {
    stack = await startAuthorizationServer();
    app = await registeredApp(stack);
  });
  afterAll(() => stack.close());
  beforeEach(async () => {
    tokens = await app.tokens(stack.browser(), "alice", { scope: "a b" });
  });

  const audited = async (action: string, grantId: unknown) =>
    (await stack.store.auditEvents({ action, limit: 1000 })).filter((event) => event.grantId === grantId);
  const grantOf = ({ access_token }: Tokens) => decodeJwt(access_token).grant_id;
  const isLive = async ({ access_token }: Tokens) => (await stack.externalTokens.identify(access_token)).ok;

  test("gets the same successor, with a working access token; the audit trail records it", async () => {
    const lost = await read(await app.refresh(tokens.refresh_token));
    const again = await read(await app.refresh(tokens.refresh_token));
    const third = await read(await app.refresh(tokens.refresh_token));
    expect([again.refresh_token, third.refresh_token]).toEqual([lost.refresh_token, lost.refresh_token]);
    expect(again).toMatchObject({ token_type: "Bearer", scope: "a b" });
    expect(await isLive(again)).toBe(true);
    const events = await audited("refresh_token.reused", grantOf(tokens));
    expect(events).toHaveLength(2);
    expect(events[0]).toMatchObject({ userId: "company/alice", clientId: app.clientId, routeId: "one" });
    const next = await read(await app.refresh(again.refresh_token));
    expect(next.refresh_token).not.toBe(lost.refresh_token);
    expect(grantOf(next)).toBe(grantOf(tokens));
  });

  test("after the successor was used, it revokes the whole family", async () => {
    const lost = await read(await app.refresh(tokens.refresh_token));
    const next = await read(await app.refresh(lost.refresh_token));
    await refused(await app.refresh(tokens.refresh_token));
    await refused(await app.refresh(next.refresh_token));
    expect(await isLive(next)).toBe(false);
    expect(await audited("grant.revoked", grantOf(tokens))).toMatchObject([
      { reason: "refresh_token_reused", clientId: app.clientId, userId: "company/alice" },
    ]);
  });

  test("after the grace period it revokes the whole family", async () => {
    await stack.reload((yaml) => `external_tokens: {refresh_token_grace: 2}\n${yaml}`);
    const lost = await read(await app.refresh(tokens.refresh_token));
    await expect
      .poll(() => stack.store.authorizationServerRecords.successorOf(tokens.refresh_token), {
        timeout: 30_000,
      })
      .toBeUndefined();
    await stack.reload((yaml) => yaml.slice(yaml.indexOf("\n") + 1));
    await refused(await app.refresh(tokens.refresh_token));
    await refused(await app.refresh(lost.refresh_token));
    expect(await isLive(lost)).toBe(false);
  });

  test("at another replica, or at both concurrently, it gets the same successor", async () => {
    const other = await stack.otherServer();
    const atOther: typeof app.refresh = (refresh_token) =>
      other.fetch("https://auth.test/oauth/token", {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: String(
          new URLSearchParams({ grant_type: "refresh_token", refresh_token, client_id: app.clientId }),
        ),
      });
    try {
      const all = await Promise.all(
        Array.from({ length: 8 }, async (_, index) =>
          read(await (index % 2 ? atOther : app.refresh)(tokens.refresh_token)),
        ),
      );
      const [successor, ...more] = new Set(all.map(({ refresh_token }) => refresh_token));
      expect(more).toEqual([]);
      expect(successor).not.toBe(tokens.refresh_token);
      expect((await read(await atOther(tokens.refresh_token))).refresh_token).toBe(successor);
      expect(new Set(await Promise.all(all.map(isLive)))).toEqual(new Set([true]));
      await read(await atOther(String(successor)));
      await refused(await app.refresh(tokens.refresh_token));
    } finally {
      await other.close();
    }
  });

  test("by another client it gets nothing, and the family stays valid", async () => {
    const lost = await read(await app.refresh(tokens.refresh_token));
    await refused(await (await registeredApp(stack)).refresh(tokens.refresh_token));
    expect((await read(await app.refresh(tokens.refresh_token))).refresh_token).toBe(lost.refresh_token);
  });

  test("by a client with a secret it requires the secret", async () => {
    const secretive = await registeredApp(stack, { token_endpoint_auth_method: "client_secret_post" });
    const its = await secretive.tokens(stack.browser(), "alice");
    const lost = await read(await secretive.refresh(its.refresh_token));
    for (const client_secret of [undefined, "wrong"])
      expect((await secretive.refresh(its.refresh_token, { client_secret })).status).toBe(401);
    expect((await read(await secretive.refresh(its.refresh_token))).refresh_token).toBe(lost.refresh_token);
  });

  test("cannot widen anything: another scope or resource is rejected, a narrower scope is not", async () => {
    await read(await app.refresh(tokens.refresh_token));
    expect((await app.refresh(tokens.refresh_token, { scope: "a c" })).status).toBe(400);
    expect((await app.refresh(tokens.refresh_token, { resource: "https://many.test/a" })).status).toBe(400);
    expect((await read(await app.refresh(tokens.refresh_token, { scope: "a" }))).scope).toBe("a");
  });

  test("is checked like a first use: grant, connection, policy, user", async () => {
    const lost = await read(await app.refresh(tokens.refresh_token));
    stack.connections.set("company/alice one", "missing");
    await refused(await app.refresh(tokens.refresh_token));
    stack.connections.delete("company/alice one");
    stack.denied.add("company/alice one");
    await refused(await app.refresh(tokens.refresh_token));
    stack.denied.clear();
    expect((await read(await app.refresh(tokens.refresh_token))).refresh_token).toBe(lost.refresh_token);
    await stack.store.authorizationServerRecords.revokeGrant(String(grantOf(tokens)), {
      action: "grant.revoked",
    });
    await refused(await app.refresh(tokens.refresh_token));

    const bobs = await app.tokens(stack.browser(), "bob");
    await read(await app.refresh(bobs.refresh_token));
    stack.company.dismiss("bob");
    await stack.ageSignIn("company/bob", 3700);
    await refused(await app.refresh(bobs.refresh_token));
  });

  test("is still inactive for introspection, and revoking it revokes the family", async () => {
    const lost = await read(await app.refresh(tokens.refresh_token));
    const asked = await app.post("/oauth/introspect", {
      token: tokens.refresh_token,
      client_id: app.clientId,
    });
    expect(await asked.json()).toEqual({ active: false });
    await app.post("/oauth/revoke", { token: tokens.refresh_token, client_id: app.clientId });
    expect(await isLive(lost)).toBe(false);
  });

  test("a code has no grace period", async () => {
    const { params, verifier } = await app.authorize(stack.browser(), "alice");
    const first = await read(await app.exchange(params.get("code") ?? "", verifier));
    await refused(await app.exchange(params.get("code") ?? "", verifier));
    expect(await isLive(first)).toBe(false);
    expect(await audited("grant.revoked", grantOf(first))).toMatchObject([
      { reason: "authorization_code_reused" },
    ]);
  });

  test("no grace period: one of many succeeds, and any use after that revokes the family", async () => {
    await stack.reload((yaml) => `external_tokens: {refresh_token_grace: 0}\n${yaml}`);
    const answers = await Promise.all(Array.from({ length: 8 }, () => app.refresh(tokens.refresh_token)));
    const [winner, ...others] = answers.filter(({ status }) => status === 200);
    expect(others).toEqual([]);
    const renewed = (await winner?.json()) as Tokens;
    for (const answer of answers.filter(({ status }) => status !== 200)) await refused(answer);
    await refused(await app.refresh(tokens.refresh_token));
    expect(await isLive(renewed)).toBe(false);
  });
});

describe("ending all access, as after a restore from a backup", () => {
  let stack: AuthorizationServerStack;
  beforeAll(async () => {
    stack = await startAuthorizationServer();
  });
  afterAll(() => stack.close());

  test("ends earlier tokens, sessions, delegations and flows; later ones work", async () => {
    const { store } = stack;
    const app = await registeredApp(stack);
    const browser = stack.browser();
    const tokens = await app.tokens(browser, "alice");
    const upstream = "https://one.example.com";
    const connection = { userId: "company/alice", routeId: "one", upstream };
    await store.upstreamTokens.put(upstreamToken(connection), { action: "upstream_token.obtained" });
    const delegated = { grantId: "of-a-machine", ownerId: "company/alice", routeId: "one", upstream };
    await askForDelegation(store, {
      ...{ ...delegated, account: "service-account/ci", routeIds: ["one"] },
      expiresAt: new Date(Date.now() + 3_600_000),
    });
    await store.delegations.give(delegated, { action: "delegation.created" });
    const { params, verifier } = await app.authorize(browser, "alice");
    const underWay = await stack.browser().open(app.request().url);
    expect(underWay.url.origin).toBe(stack.company.issuer);

    const ended = await store.endAccess(await makeKey("external_token", new Date()), "restored");
    expect(ended).toMatchObject({
      grants: 3,
      refreshTokens: 1,
      delegations: 1,
      browserSessions: 1,
      people: 1,
    });
    expect(ended.pendingAuthorizations).toBeGreaterThan(0);
    await refused(await app.refresh(tokens.refresh_token));
    await refused(await app.exchange(params.get("code") ?? "", verifier));
    expect(await rowsOf(store.authorizationServerRecords.grantPages({}))).toEqual([]);
    expect(await store.delegations.ofOwner("company/alice")).toEqual([]);
    // Including caches: within a second.
    await expect
      .poll(async () => JSON.parse((await browser.open("https://auth.test/whoami")).html))
      .toEqual({});
    await expect
      .poll(
        async () => (await stack.externalTokens.verify(tokens.access_token, stack.routes().byId("one")!)).ok,
      )
      .toBe(false);
    const late = await browser.submit(underWay, people.alice);
    expect(late.html).not.toContain("client-callback");
    expect(await store.upstreamTokens.find(connection)).toMatchObject({ userId: "company/alice" });

    const fresh = await app.tokens(stack.browser(), "alice");
    expect((await stack.externalTokens.identify(fresh.access_token)).ok).toBe(true);
    await read(await app.refresh(fresh.refresh_token));
  });
});
