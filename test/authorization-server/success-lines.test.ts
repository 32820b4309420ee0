import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createServiceAccounts } from "../../src/external-tokens/service-accounts.ts";
import type { Stack } from "../support/stack.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type OAuthClientStack, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";
import { registeredApp } from "./mcp-app.ts";
import { type AuthorizationServerStack, startAuthorizationServer } from "./start-authorization-server.ts";

type Line = Readonly<Record<string, unknown>>;

/** The lines of all replicas that are about an audit event. */
const linesOf = ({ log }: Pick<Stack, "log">): Line[] =>
  log.map((line) => JSON.parse(line) as Line).filter(({ action }) => action !== undefined);

/** Expects a line for each event of the trail, in its order, with what the event is about. */
async function expectOneLineEach({ log, store }: Pick<Stack, "log" | "store">, actions: readonly string[]) {
  const trail = (await store.auditEvents({ limit: 1000 })).filter(({ action }) => actions.includes(action));
  expect(trail.map(({ action }) => action)).toEqual(actions);
  expect(linesOf({ log })).toEqual(
    trail.map(({ action, userId, clientId, grantId, routeId, upstream, issuer, reason, requestId }) => {
      const about = {
        action,
        userId,
        clientId,
        grantId,
        route: routeId,
        upstream,
        issuer,
        reason,
        requestId,
      };
      const known = Object.entries(about).filter(([, value]) => value !== undefined);
      return expect.objectContaining({ level: "info", ...Object.fromEntries(known) });
    }),
  );
}

function expectNoneOf(secrets: readonly (string | undefined)[], { log }: Pick<Stack, "log">) {
  const text = log.join("");
  for (const secret of secrets) {
    expect(secret?.length ?? 0).toBeGreaterThan(8);
    expect(text).not.toContain(secret);
  }
}

describe("the log of what a client and its user do", () => {
  let stack: AuthorizationServerStack;
  beforeAll(async () => {
    stack = await startAuthorizationServer();
    await stack.replica();
  });
  afterAll(() => stack?.close());

  test("has one line each for sign-in, grant, tokens and sign-out over all replicas, and no secret", async () => {
    const app = await registeredApp(stack);
    const browser = stack.browser();
    const { params, verifier } = await app.authorize(browser, "alice");
    const code = params.get("code") ?? "";
    const tokens = (await (await app.exchange(code, verifier)).json()) as Record<string, string>;
    const second = (await (await app.refresh(tokens.refresh_token ?? "")).json()) as Record<string, string>;
    const session = await stack.store.signInSessions.find("company/alice");
    const cookies = browser.jar.serializeSync()?.cookies ?? [];
    const accounts = createServiceAccounts({ ...stack, issuer: "https://auth.test" });
    const route = stack.routes().byId("one");
    if (!route) throw new Error("no route one");
    const account = await accounts.create({ name: "nightly", routes: [route], members: [], lifetime: 3600 });
    await browser.submit(await browser.open("https://auth.test/.pomerium/sign_out"), {});
    const [grant] = await stack.store.authorizationServerRecords.grants({ userId: "company/alice" });
    await stack.store.authorizationServerRecords.revokeGrant(grant?.grantId ?? "", {
      ...{ action: "grant.revoked", userId: "company/alice", grantId: grant?.grantId },
      reason: "revoked by the user",
    });
    await expectOneLineEach(stack, [
      "person.signed_in",
      "grant.created",
      "external_token.issued",
      "external_token.issued",
      "service_account.created",
      "person.signed_out",
      "grant.revoked",
    ]);
    const issued = [tokens.access_token, tokens.refresh_token, second.access_token, second.refresh_token];
    const atCompany = [session?.idToken, session?.accessToken, session?.refreshToken];
    const secrets = [code, verifier, ...issued, ...atCompany, ...account.tokens.values()];
    // Short ones are flags.
    const values = cookies.map(({ value }) => value ?? "").filter((value) => value.length > 20);
    expect(values.length).toBeGreaterThan(1);
    expectNoneOf([...secrets, ...values], stack);
  });
});

describe("the log of a connection", () => {
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeAll(async () => {
    upstream = await scriptedUpstream();
    upstream.metadata.revocation_endpoint = `${upstream.url}/revoke`;
    upstream.on("/revoke", { status: 200, body: "" });
    stack = await startOAuthClient(
      `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {}}}`,
    );
    await stack.replica();
  });
  afterAll(() => Promise.all([upstream?.close(), stack?.close()]));

  test("has one line each for obtaining, refreshing, disconnecting and revoking its token, and no secret", async () => {
    const key = { userId: alice, routeId: "files", upstream: upstream.mcp };
    let answer = new URLSearchParams();
    await stack.connect((location) => {
      answer = upstream.agree(location);
      return answer;
    });
    const first = await stack.store.upstreamTokens.find(key);
    if (!first) throw new Error("not connected");
    const { version: _, connectedAt: __, updatedAt: ___, ...rest } = first;
    const expired = { ...rest, expiresAt: new Date(Date.now() - 1000) };
    await stack.store.upstreamTokens.put(expired, { action: "upstream_token.obtained", userId: alice });
    const found = await stack.upstreamTokens.find({ userId: alice, kind: "person" }, stack.route());
    expect(found.kind).toBe("credential");
    const second = await stack.store.upstreamTokens.find(key);
    expect(second?.accessToken).not.toBe(first.accessToken);
    await stack.upstreamTokens.disconnect(alice, stack.route());
    await expect
      .poll(
        async () => (await stack.store.auditEvents({ action: "upstream_token.revoked", limit: 9 })).length,
      )
      .toBe(1);
    await expectOneLineEach(stack, [
      "upstream_token.obtained",
      "upstream_token.obtained",
      "upstream_token.refreshed",
      "upstream_token.disconnected",
      "upstream_token.revoked",
    ]);
    const tokens = [first, second].flatMap((one) => [one?.accessToken, one?.refreshToken]);
    expectNoneOf([answer.get("code") ?? "", answer.get("state") ?? "", ...tokens], stack);
  });
});
