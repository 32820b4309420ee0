import { decodeJwt } from "jose";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { upstreamToken } from "../store/samples.ts";
import { askForDelegation } from "../support/ask-for-delegation.ts";
import { appOf, type McpApp, registeredApp, type Tokens } from "./mcp-app.ts";
import { type AuthorizationServerStack, startAuthorizationServer } from "./start-authorization-server.ts";

let stack: AuthorizationServerStack;
let app: McpApp;
beforeAll(async () => {
  stack = await startAuthorizationServer(`authorization_server:
  clients:
    - {client_id: inspector, client_secret: inspector-secret, client_name: Inspector, redirect_uris: ["https://inspector.test/cb"]}
`);
  app = await registeredApp(stack);
});
afterAll(() => stack.close());

const problem = async (response: Response) => ({
  status: response.status,
  ...((await response.json()) as { error: string; error_description?: string }),
});

async function codeOf(client: McpApp, changes?: Record<string, string | undefined>) {
  const { params, verifier } = await client.authorize(stack.browser(), "alice", changes);
  return { code: params.get("code") ?? "", verifier };
}

describe("the token endpoint", () => {
  test.each([
    ["another redirect URI", { redirect_uri: "http://127.0.0.1:7778/client-callback" }],
    ["another verifier", { code_verifier: "x".repeat(43) }],
    ["another code", { code: "nonsense" }],
  ])("rejects %s with invalid_grant", async (_name, changes) => {
    const { code, verifier } = await codeOf(app);
    expect(await problem(await app.exchange(code, verifier, changes))).toMatchObject({
      status: 400,
      error: "invalid_grant",
    });
  });

  test("rejects a request without redirect URI", async () => {
    const { code, verifier } = await codeOf(app);
    const answer = await problem(await app.exchange(code, verifier, { redirect_uri: undefined }));
    expect(answer).toMatchObject({ status: 400, error: "invalid_request" });
  });

  test("rejects the code of another client", async () => {
    const other = await registeredApp(stack);
    const { code, verifier } = await codeOf(app);
    expect(await problem(await other.exchange(code, verifier))).toMatchObject({ error: "invalid_grant" });
  });

  test("rejects a replayed code and revokes the tokens issued for it", async () => {
    const { code, verifier } = await codeOf(app);
    const tokens = (await (await app.exchange(code, verifier)).json()) as Tokens;
    expect(await problem(await app.exchange(code, verifier))).toMatchObject({ error: "invalid_grant" });
    expect(await stack.externalTokens.identify(tokens.access_token)).toMatchObject({ rejection: "revoked" });
    expect(await problem(await app.refresh(tokens.refresh_token))).toMatchObject({ error: "invalid_grant" });
  });

  test("issues at most one token for concurrent exchanges: the others are replays, which revoke it", async () => {
    const { code, verifier } = await codeOf(app);
    const answers = await Promise.all(Array.from({ length: 8 }, () => app.exchange(code, verifier)));
    const refused = await Promise.all(answers.filter((answer) => answer.status !== 200).map(problem));
    expect(refused.length).toBeGreaterThanOrEqual(7);
    for (const one of refused) expect(one).toMatchObject({ status: 400, error: "invalid_grant" });
  });

  describe.each(["client_secret_basic", "client_secret_post"])("with a client of %s", (method) => {
    const basic = (id: string, secret: string) =>
      `Basic ${Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString("base64")}`;

    test("accepts the right secret, rejects a wrong and a missing one with 401", async () => {
      const client = await registeredApp(stack, { token_endpoint_auth_method: method });
      const { code, verifier } = await codeOf(client);
      const form = { client_id: undefined, client_secret: undefined };
      const missing = await client.exchange(code, verifier, { client_secret: undefined });
      expect(await problem(missing)).toMatchObject({ status: 401, error: "invalid_client" });
      const wrong = await client.exchange(code, verifier, { client_secret: "wrong" });
      expect(await problem(wrong)).toMatchObject({ status: 401, error: "invalid_client" });
      const request = {
        grant_type: "authorization_code",
        code,
        code_verifier: verifier,
        redirect_uri: client.redirectUri,
      };
      const wrongBasic = await client.post(
        "/oauth/token",
        { ...request, ...form },
        { authorization: basic(client.clientId, "wrong") },
      );
      expect(wrongBasic.headers.get("www-authenticate")).toMatch(/^Basic /);
      expect(await problem(wrongBasic)).toMatchObject({ status: 401, error: "invalid_client" });
      const right = await client.post(
        "/oauth/token",
        { ...request, ...form },
        { authorization: basic(client.clientId, client.clientSecret ?? "") },
      );
      expect(right.status).toBe(200);
    });
  });

  test("also answers at the Pomerium path, and to web pages", async () => {
    const { code, verifier } = await codeOf(app);
    const response = await app.post(
      "/.pomerium/mcp/token",
      {
        grant_type: "authorization_code",
        code,
        code_verifier: verifier,
        redirect_uri: app.redirectUri,
        client_id: app.clientId,
      },
      { origin: "https://web.test" },
    );
    expect(response.status).toBe(200);
    expect(response.headers.get("access-control-allow-origin")).toBe("*");
    expect(response.headers.get("cache-control")).toBe("no-store");
  });
});

describe("refresh tokens", () => {
  let tokens: Tokens;
  beforeEach(async () => {
    tokens = await app.tokens(stack.browser(), "alice", { scope: "a b" });
  });

  test("are issued without offline_access and rotate", async () => {
    const renewed = (await (await app.refresh(tokens.refresh_token)).json()) as Tokens;
    expect(renewed.refresh_token).not.toBe(tokens.refresh_token);
    expect(decodeJwt(renewed.access_token)).toMatchObject({ aud: "https://one.test", scope: "a b" });
    expect(decodeJwt(renewed.access_token).grant_id).toBe(decodeJwt(tokens.access_token).grant_id);
    expect((await app.refresh(renewed.refresh_token)).status).toBe(200);
  });

  test("can narrow the scope, but not widen it", async () => {
    const narrowed = (await (await app.refresh(tokens.refresh_token, { scope: "a" })).json()) as Tokens;
    expect(narrowed.scope).toBe("a");
    expect(await problem(await app.refresh(narrowed.refresh_token, { scope: "a c" }))).toMatchObject({
      error: "invalid_scope",
    });
  });

  test("reused after their successor was used revoke the family", async () => {
    const lost = (await (await app.refresh(tokens.refresh_token)).json()) as Tokens;
    const renewed = (await (await app.refresh(lost.refresh_token)).json()) as Tokens;
    expect(await problem(await app.refresh(tokens.refresh_token))).toMatchObject({ error: "invalid_grant" });
    expect(await problem(await app.refresh(renewed.refresh_token))).toMatchObject({ error: "invalid_grant" });
    expect(await stack.externalTokens.identify(renewed.access_token)).toMatchObject({ rejection: "revoked" });
  });

  test("of another client are rejected, and stay valid", async () => {
    const other = await registeredApp(stack);
    expect(await problem(await other.refresh(tokens.refresh_token))).toMatchObject({
      error: "invalid_grant",
    });
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
  });

  test.each([
    ["the upstream's consent is missing", "missing"],
    ["a new sign-in is required", "sign_in_needed"],
  ] as const)("are rejected while %s, and valid again afterwards", async (_why, state) => {
    stack.connections.set("company/alice one", state);
    expect(await problem(await app.refresh(tokens.refresh_token))).toMatchObject({ error: "invalid_grant" });
    expect(await problem(await app.refresh(tokens.refresh_token))).toMatchObject({ error: "invalid_grant" });
    expect(await stack.externalTokens.identify(tokens.access_token)).toMatchObject({ ok: true });
    stack.connections.set("company/alice one", "connected");
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
    stack.connections.delete("company/alice one");
  });

  test("used long before their access token expires verify the connection, where the gateway does not see upstream responses", async () => {
    const verifiedBy = async (act: () => Promise<unknown>) => {
      stack.verified.length = 0;
      await act();
      return [...stack.verified];
    };
    const refresh = async () => {
      tokens = (await (await app.refresh(tokens.refresh_token)).json()) as Tokens;
    };
    expect(await verifiedBy(refresh)).toEqual([]);
    await stack.reload((yaml) => `${yaml}\nenvoy: {response_path: false}\n`);
    expect(await verifiedBy(refresh)).toEqual(["company/alice one"]);
    const records = stack.store.authorizationServerRecords;
    const record = await records.find("RefreshToken", tokens.refresh_token);
    if (!record) throw new Error("the refresh token is not stored");
    const { ttl } = stack.routes().config.externalTokens;
    const iat = Number(record.payload.iat) - ttl;
    await records.upsert({ ...record, payload: { ...record.payload, iat } });
    expect(await verifiedBy(refresh)).toEqual([]);
    await stack.reload((yaml) => yaml.replace("envoy: {response_path: false}", ""));
  });

  test("keep working while the upstream's server is down", async () => {
    stack.connections.set("company/alice one", "unavailable");
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
    stack.connections.delete("company/alice one");
  });

  test("of a removed route are rejected, and valid again when it is back", async () => {
    await stack.reload((yaml) => yaml.replaceAll("https://one.test", "https://uno.test"));
    expect(await problem(await app.refresh(tokens.refresh_token))).toMatchObject({ error: "invalid_grant" });
    await stack.reload((yaml) => yaml.replaceAll("https://uno.test", "https://one.test"));
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
  });
});

describe("refresh tokens and authorizations of a stored route that cannot be used", () => {
  const unreadable = { id: "stored", place: "one.test/stored" };
  const entry = {
    ...{ from: "https://one.test/stored", to: "https://stored.internal" },
    mcp: { server: { upstream_auth: "none" } },
  };
  const ways = {
    "cannot be decrypted": () => stack.useStored([], { unreadable: [unreadable], rejected: [] }),
    "is invalid": () => stack.useStored([{ ...unreadable, entry: { ...entry, newer: 1 } }]),
    "has a rejected row": () => stack.useStored([], { unreadable: [], rejected: [{ id: "stored", entry }] }),
  };
  const resource = "https://one.test/stored";

  test.each(Object.keys(ways) as (keyof typeof ways)[])(
    "are 503 if it %s, and valid again later",
    async (way) => {
      await stack.reload((yaml) => yaml);
      stack.useStored([{ id: "stored", entry }]);
      const tokens = await app.tokens(stack.browser(), "alice", { resource });
      const authorization = await codeOf(app, { resource });

      await stack.reload((yaml) => yaml);
      ways[way]();
      for (const spelling of [undefined, resource, `${resource}/`])
        expect(await problem(await app.refresh(tokens.refresh_token, { resource: spelling }))).toMatchObject({
          ...{ status: 503, error: "temporarily_unavailable" },
        });
      const { code, verifier } = authorization;
      expect(await problem(await app.exchange(code, verifier, { resource }))).toMatchObject({ status: 503 });
      const { params } = await app.authorize(stack.browser(), "alice", { resource });
      expect(params.get("error")).toBe("temporarily_unavailable");
      const metadata = await stack.fetch("https://one.test/.well-known/oauth-protected-resource/stored");
      expect([metadata.status, metadata.headers.get("retry-after")]).toEqual([503, "60"]);

      await stack.reload((yaml) => yaml);
      stack.useStored([{ id: "stored", entry }]);
      expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
      await stack.reload((yaml) => yaml);
    },
  );
});

describe("each refresh rechecks the user at the provider", () => {
  test("policy sees changed groups with every token of the user", async () => {
    const seen = async ({ access_token }: Tokens) => {
      const verified = await stack.externalTokens.verify(access_token, stack.routes().byId("one")!);
      return verified.ok && verified.caller.groups;
    };
    const tokens = await app.tokens(stack.browser(), "alice");
    const alice = stack.company.accounts.find(({ login }) => login === "alice");
    if (alice) alice.groups = ["moved"];
    const same = (await (await app.refresh(tokens.refresh_token)).json()) as Tokens;
    expect(await seen(same)).toEqual(["engineering", "everyone"]);
    await stack.ageSignIn("company/alice", 3700);
    const renewed = (await (await app.refresh(same.refresh_token)).json()) as Tokens;
    await expect.poll(() => seen(renewed)).toEqual(["moved"]);
    expect(await seen(same)).toEqual(["moved"]);
    expect(decodeJwt(renewed.access_token)).not.toHaveProperty("groups");
  });

  test("only once for concurrent refreshes", async () => {
    const second = await registeredApp(stack);
    const browser = stack.browser();
    const all = [await app.tokens(browser, "alice"), await second.tokens(browser, "alice")] as const;
    await stack.ageSignIn("company/alice", 3700);
    const before = stack.company.counts.tokens.refresh_token ?? 0;
    const answers = await Promise.all([
      app.refresh(all[0].refresh_token),
      second.refresh(all[1].refresh_token),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
    expect((stack.company.counts.tokens.refresh_token ?? 0) - before).toBe(1);
  });

  test("bridges an outage for the grace period, then answers 503 and keeps the refresh token", async () => {
    const tokens = await app.tokens(stack.browser(), "alice");
    const { recheckGrace } = await graceOf();
    stack.company.outage(503);
    await stack.ageSignIn("company/alice", 3700);
    const bridged = await app.refresh(tokens.refresh_token);
    expect(bridged.status).toBe(200);
    const { refresh_token } = (await bridged.json()) as Tokens;
    await stack.ageSignIn("company/alice", 3700 + recheckGrace);
    const down = await app.refresh(refresh_token);
    expect(down.headers.get("retry-after")).toBeTruthy();
    expect(await problem(down)).toMatchObject({ status: 503, error: "temporarily_unavailable" });
    stack.company.outage(undefined);
    expect((await app.refresh(refresh_token)).status).toBe(200);
  });

  test("ends the user's sessions, grants and connections when the provider rejects the user", async () => {
    const browser = stack.browser();
    const bobs = await app.tokens(browser, "bob");
    stack.company.dismiss("bob");
    await stack.ageSignIn("company/bob", 3700);
    expect(await problem(await app.refresh(bobs.refresh_token))).toMatchObject({ error: "invalid_grant" });
    expect(await stack.externalTokens.identify(bobs.access_token)).toMatchObject({ rejection: "revoked" });
    expect(await stack.store.authorizationServerRecords.grants({ userId: "company/bob" })).toEqual([]);
    expect(JSON.parse((await browser.open("https://auth.test/whoami")).html)).toEqual({});
    expect(stack.gone).toEqual(["company/bob"]);
  });

  test("users who have delegated a connection are rechecked although none of their clients refreshes", async () => {
    const { store, signIn, company } = stack;
    await app.tokens(stack.browser(), "alice");
    const owner = "company/alice";
    const which = {
      grantId: "of-a-machine",
      ownerId: owner,
      routeId: "one",
      upstream: "https://one.example.com",
    };
    await store.upstreamTokens.put(upstreamToken({ ...which, userId: owner }), {
      action: "upstream_token.obtained",
    });
    const asked = () => company.counts.tokens.refresh_token ?? 0;
    await stack.ageSignIn(owner, 3700);
    const before = asked();
    const expiresAt = new Date(Date.now() + 3_600_000);
    await askForDelegation(store, { ...which, account: "service-account/ci", routeIds: ["one"], expiresAt });
    await signIn.recheckOwners();
    expect(asked() - before).toBe(0);
    await store.delegations.give(which, { action: "delegation.created" });
    // At most once an hour, regardless of the calls.
    for (let calls = 0; calls < 3; calls++) await signIn.recheckOwners();
    expect(asked() - before).toBe(1);
  });

  async function graceOf() {
    let grace = 0;
    await stack.reload((yaml) => {
      grace = 600;
      return yaml.includes("recheck_grace")
        ? yaml
        : yaml.replace("sign_in:\n", "sign_in:\n  recheck_grace: 600\n");
    });
    return { recheckGrace: grace };
  }
});

describe("revocation and introspection", () => {
  let tokens: Tokens;
  beforeEach(async () => {
    tokens = await app.tokens(stack.browser(), "alice", { scope: "a b" });
  });
  const introspect = async (token: string, client: McpApp = app) =>
    (
      await client.post("/oauth/introspect", {
        token,
        client_id: client.clientId,
        client_secret: client.clientSecret,
      })
    ).json();

  test("an external token is described to its client", async () => {
    const claims = decodeJwt(tokens.access_token);
    expect(await introspect(tokens.access_token)).toEqual({
      active: true,
      iss: "https://auth.test",
      sub: "company/alice",
      client_id: app.clientId,
      aud: "https://one.test",
      scope: "a b",
      exp: claims.exp,
      iat: claims.iat,
      jti: claims.jti,
      token_type: "Bearer",
    });
  });

  test("a refresh token is described to its client", async () => {
    expect(await introspect(tokens.refresh_token)).toMatchObject({ active: true, client_id: app.clientId });
  });

  test("another client learns nothing; a pre-registered client with a secret learns everything", async () => {
    const other = await registeredApp(stack, { token_endpoint_auth_method: "client_secret_post" });
    expect(await introspect(tokens.access_token, other)).toEqual({ active: false });
    expect(await introspect(tokens.refresh_token, other)).toEqual({ active: false });
    const inspector = appOf(stack, "inspector", "inspector-secret");
    expect(await introspect(tokens.access_token, inspector)).toMatchObject({ active: true });
  });

  test("an unknown client, or a wrong secret, is 401", async () => {
    for (const changes of [{ client_id: "nobody" }, { client_id: "inspector", client_secret: "wrong" }]) {
      for (const path of ["/oauth/introspect", "/oauth/revoke"]) {
        const response = await app.post(path, { token: tokens.access_token, ...changes });
        expect(await problem(response)).toMatchObject({ status: 401, error: "invalid_client" });
      }
    }
    expect(await introspect(tokens.access_token)).toMatchObject({ active: true });
  });

  test.each(["garbage", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."])(
    "%s is not active",
    async (token) => {
      expect(await introspect(token)).toEqual({ active: false });
      const revoked = await app.post("/oauth/revoke", { token, client_id: app.clientId });
      expect(revoked.status).toBe(200);
    },
  );

  test.each(["access_token", "refresh_token"] as const)("revoking the %s ends the grant", async (kind) => {
    const response = await app.post("/oauth/revoke", { token: tokens[kind], client_id: app.clientId });
    expect(response.status).toBe(200);
    expect(await introspect(tokens.access_token)).toEqual({ active: false });
    expect(await introspect(tokens.refresh_token)).toEqual({ active: false });
    expect(await problem(await app.refresh(tokens.refresh_token))).toMatchObject({ error: "invalid_grant" });
  });

  test("the audit trail has an external token revoked by its client, with user, client and route", async () => {
    const client = await registeredApp(stack);
    const { access_token: token } = await client.tokens(stack.browser(), "alice");
    // The second time, nothing is left to revoke.
    for (let time = 0; time < 2; time++)
      await client.post(
        "/oauth/revoke",
        { token, client_id: client.clientId },
        { "x-request-id": "revoke-1" },
      );
    const events = await stack.store.auditEvents({ action: "external_token.revoked", limit: 100 });
    expect(events.filter(({ clientId }) => clientId === client.clientId)).toEqual([
      expect.objectContaining({
        userId: "company/alice",
        grantId: decodeJwt(token).grant_id,
        routeId: "one",
        reason: "revoked by the client",
        requestId: "revoke-1",
      }),
    ]);
  });

  test("another client cannot revoke", async () => {
    const other = await registeredApp(stack);
    await other.post("/oauth/revoke", { token: tokens.access_token, client_id: other.clientId });
    await other.post("/oauth/revoke", { token: tokens.refresh_token, client_id: other.clientId });
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
  });
});

test("refresh tokens expire 30 days after their last use, and 365 days after the consent regardless of use", async () => {
  const { authorizationServerRecords: records } = stack.store;
  const recordOf = async ({ refresh_token }: Tokens) => {
    const record = await records.find("RefreshToken", refresh_token);
    if (!record?.expiresAt) throw new Error("no such refresh token, or one without an expiry");
    return { ...record, days: Math.round((record.expiresAt.getTime() - Date.now()) / 86_400_000) };
  };
  const tokens = await app.tokens(stack.browser(), "alice");
  const first = await recordOf(tokens);
  expect(first.days).toBe(30);
  const grant = await records.find("Grant", String(first.payload.grantId));
  expect(Math.round(((grant?.expiresAt?.getTime() ?? 0) - Date.now()) / 86_400_000)).toBe(365);
  // As if it had been used every day for 360 days.
  const iiat = Number(first.payload.iiat) - 360 * 86_400;
  await records.upsert({ ...first, payload: { ...first.payload, iiat } });
  const renewed = (await (await app.refresh(tokens.refresh_token)).json()) as Tokens;
  expect((await recordOf(renewed)).days).toBe(5);
  // And another 25 days without use.
  const left = await recordOf(renewed);
  await records.upsert({ ...left, expiresAt: new Date(Date.now() - 1000) });
  expect(await problem(await app.refresh(renewed.refresh_token))).toMatchObject({ error: "invalid_grant" });
});

describe("an external token says when its client cannot refresh it", () => {
  const codeOnly = { grant_types: ["authorization_code"] };
  const documented = async () => {
    const url = "https://app.example/oauth/code-only.json";
    const document = { client_id: url, client_name: "Once", redirect_uris: [app.redirectUri], ...codeOnly };
    stack.documents.set(url, () => Response.json(document));
    return appOf(stack, url);
  };

  test.each([
    ["registered only for codes", () => registeredApp(stack, codeOnly), false],
    ["with a document only for codes", documented, false],
    ["registered also for refresh tokens", async () => app, true],
  ])("a client %s", async (_name, client, refreshable) => {
    const tokens = await (await client()).tokens(stack.browser(), "alice");
    expect(typeof tokens.refresh_token).toBe(refreshable ? "string" : "undefined");
    expect(decodeJwt(tokens.access_token).refreshable).toBe(refreshable ? undefined : false);
    expect(await stack.externalTokens.identify(tokens.access_token)).toMatchObject({
      caller: { refreshable },
    });
  });
});

test("signing keys rotate without a restart: old tokens stay valid, new ones use the new key", async () => {
  const before = await app.tokens(stack.browser(), "alice");
  const kid = await stack.keys.rotate("external_token", 0, 7200);
  const after = await app.tokens(stack.browser(), "alice");
  const jwks = (await (await stack.fetch("https://auth.test/oauth/jwks")).json()) as {
    keys: { kid: string }[];
  };
  expect(jwks.keys.map((key) => key.kid)).toContain(kid);
  for (const { access_token } of [before, after]) {
    expect(await stack.externalTokens.identify(access_token)).toMatchObject({ ok: true });
  }
  expect(
    JSON.parse(Buffer.from(after.access_token.split(".")[0] ?? "", "base64url").toString()),
  ).toMatchObject({ kid });
});

test("no token, code or secret reaches the log", async () => {
  const tokens = await app.tokens(stack.browser(), "alice");
  await app.refresh(tokens.refresh_token);
  const text = stack.log.join("\n");
  expect(text).not.toContain(tokens.access_token);
  expect(text).not.toContain(tokens.refresh_token);
});
