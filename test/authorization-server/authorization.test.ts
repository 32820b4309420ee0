import { decodeJwt, decodeProtectedHeader } from "jose";
import { parse } from "node-html-parser";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type McpApp, onTheWeb, people, registeredApp, type Tokens, throughCompany } from "./mcp-app.ts";
import { type AuthorizationServerStack, startAuthorizationServer } from "./start-authorization-server.ts";

let stack: AuthorizationServerStack;
let app: McpApp;
beforeAll(async () => {
  stack = await startAuthorizationServer();
  app = await registeredApp(stack);
});
afterAll(() => stack.close());

const atCompany = (person: keyof typeof people) => (origin: string) =>
  origin === stack.company.issuer ? people[person] : undefined;

test("a registered client gets an external token for the resource after sign-in and consent", async () => {
  const tokens = await app.tokens(stack.browser(), "alice", { scope: "tools:read tools:write" });
  expect(decodeProtectedHeader(tokens.access_token)).toMatchObject({ alg: "ES256", typ: "at+jwt" });
  expect(decodeJwt(tokens.access_token)).toMatchObject({
    iss: "https://auth.test",
    aud: "https://one.test",
    sub: "company/alice",
    client_id: app.clientId,
    scope: "tools:read tools:write",
    grant_id: expect.any(String),
    jti: expect.any(String),
  });
  expect(tokens).toMatchObject({ token_type: "Bearer", expires_in: 3600, refresh_token: expect.any(String) });
  for (const claim of ["email", "name", "groups"])
    expect(decodeJwt(tokens.access_token)).not.toHaveProperty(claim);
  expect(await stack.externalTokens.identify(tokens.access_token)).toMatchObject({
    ok: true,
    caller: { email: "alice@example.com", name: "Alice Liddell", groups: ["engineering", "everyone"] },
  });
});

test("the response has the state and our issuer (RFC 9207)", async () => {
  const { url, state } = app.request();
  const browser = stack.browser();
  const page = await browser.agree(await browser.open(url), atCompany("alice"));
  expect(page.url.searchParams.get("state")).toBe(state);
  expect(page.url.searchParams.get("iss")).toBe("https://auth.test");
});

test("a client that requests no scope gets mcp; otherwise it gets what it requests", async () => {
  const browser = stack.browser();
  expect((await app.tokens(browser, "alice")).scope).toBe("mcp");
  expect((await app.tokens(browser, "alice", { scope: "a:b c" })).scope).toBe("a:b c");
});

test("the audience is the route's resource for any requested URL below it", async () => {
  const tokens = await app.tokens(stack.browser(), "alice", { resource: "https://many.test/a/deeper" });
  expect(decodeJwt(tokens.access_token).aud).toBe("https://many.test/a");
});

describe("resource", () => {
  test.each([
    ["of no route", { resource: "https://elsewhere.test" }],
    ["with the wrong scheme", { resource: "http://one.test" }],
    ["missing with prompt=none", { resource: undefined, prompt: "none" }],
    ["that is not a URL", { resource: "one" }],
  ])("%s is invalid_target, reported to the client", async (_name, changes) => {
    const { page } = await app.authorize(stack.browser(), "alice", changes);
    expect(page.url.pathname).toBe("/client-callback");
    expect(page.url.searchParams.get("error")).toBe("invalid_target");
    expect(page.url.searchParams.get("error_description")).toBeTruthy();
  });

  test("missing means the only MCP server of the gateway, at every step", async () => {
    const switched = (yaml: string) => yaml.replaceAll(/id: (many-.)$/gm, "id: $1\n    enabled: false");
    await stack.reload(switched);
    try {
      for (const resource of [undefined, ""]) {
        const tokens = await app.tokens(stack.browser(), "alice", { resource });
        expect(decodeJwt(tokens.access_token).aud).toBe("https://one.test");
        const renewed = (await (await app.refresh(tokens.refresh_token)).json()) as { access_token: string };
        expect(decodeJwt(renewed.access_token).aud).toBe("https://one.test");
      }
    } finally {
      await stack.reload((yaml) => yaml.replaceAll("\n    enabled: false", ""));
    }
  });

  describe("missing with several MCP servers", () => {
    const ask = () => app.request({ resource: undefined });
    const enter = async (server: string) => {
      const { url, ...request } = ask();
      const browser = stack.browser();
      const asked = await browser.submit(await browser.open(url), { server });
      return { request, asked, browser };
    };

    test.each([
      ["https://many.test/a", "https://many.test/a"],
      [" HTTPS://Many.test/a/deeper#x ", "https://many.test/a"],
      ["one.test", "https://one.test"],
    ])(
      "the user enters %j, as in the application, and the token is valid there",
      async (server, audience) => {
        const { request, asked, browser } = await enter(server);
        const page = await browser.agree(asked, atCompany("alice"));
        expect(page.url.searchParams.get("state")).toBe(request.state);
        const code = page.url.searchParams.get("code") ?? "";
        const tokens = (await (await app.exchange(code, request.verifier)).json()) as Tokens;
        expect(decodeJwt(tokens.access_token).aud).toBe(audience);
        const renewed = (await (await app.refresh(tokens.refresh_token)).json()) as Tokens;
        expect(decodeJwt(renewed.access_token).aud).toBe(audience);
      },
    );

    test.each([
      "https://elsewhere.test",
      "http://one.test",
      "https://many.test",
      '"><script>',
      "one.test/%2f",
    ])("%j is not a server of this gateway: the page asks again, and names none", async (server) => {
      const { asked } = await enter(server);
      expect(asked.status).toBe(400);
      expect(asked.html).toContain("no MCP server at that address");
      expect(asked.html).not.toMatch(/<script>|many\.test|one\.test/);
    });

    test("a program that follows the link gets the error in the client's redirect", async () => {
      const response = await stack.fetch(ask().url, { redirect: "manual", headers: { accept: "*/*" } });
      const back = new URL(response.headers.get("location") ?? "");
      expect(back.searchParams.get("error")).toBe("invalid_target");
      expect(back.searchParams.get("error_description")).toMatch(
        /send the resource from the protected resource metadata/,
      );
    });

    test("the parameter server is ignored if there is a resource", async () => {
      const { url } = app.request();
      url.searchParams.set("server", "https://many.test/a");
      const browser = stack.browser();
      const page = await browser.agree(await browser.open(url), atCompany("alice"));
      expect(page.url.searchParams.get("code")).toBeTruthy();
    });
  });

  test("two resources in one request are rejected", async () => {
    const { url } = app.request();
    url.searchParams.append("resource", "https://many.test/a");
    const page = await stack.browser().open(url);
    expect(page.url.searchParams.get("error")).toBe("invalid_target");
  });

  test("another one at the token endpoint is rejected, and the refresh token still works", async () => {
    const tokens = await app.tokens(stack.browser(), "alice");
    const other = await app.refresh(tokens.refresh_token, { resource: "https://many.test/a" });
    expect(await other.json()).toMatchObject({ error: "invalid_target" });
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
  });

  test("is added on a route host for clients of the 2025-03-26 revision", async () => {
    const metadata = await (
      await stack.fetch("https://one.test/.well-known/oauth-authorization-server")
    ).json();
    const { url, verifier } = app.request({ resource: undefined });
    const legacy = new URL((metadata as { authorization_endpoint: string }).authorization_endpoint);
    legacy.search = url.search;
    const browser = stack.browser();
    const page = await browser.agree(await browser.open(legacy), atCompany("alice"));
    const response = await app.exchange(page.url.searchParams.get("code") ?? "", verifier);
    const { access_token } = (await response.json()) as { access_token: string };
    expect(decodeJwt(access_token).aud).toBe("https://one.test");
  });
});

test("an external token for one route is invalid on another", async () => {
  const { access_token } = await app.tokens(stack.browser(), "alice", { resource: "https://many.test/a" });
  const identified = await stack.externalTokens.identify(access_token);
  expect(identified).toMatchObject({ ok: true, audience: ["https://many.test/a"] });
});

describe("PKCE", () => {
  test.each([
    ["plain", { code_challenge_method: "plain" }],
    ["without a method", { code_challenge_method: undefined }],
    ["absent", { code_challenge: undefined, code_challenge_method: undefined }],
    ["too short", { code_challenge: "short" }],
  ])("%s is rejected", async (_name, changes) => {
    const { url } = app.request(changes);
    const page = await stack.browser().open(url);
    expect(page.url.searchParams.get("error")).toBe("invalid_request");
  });
});

describe("a redirect URI that is not the client's ends on our error page", () => {
  test.each([
    "https://attacker.test/client-callback",
    "http://127.0.0.1:7777/client-callback/../other",
    "http://127.0.0.1:7777/client-callback?more=1",
    "http://127.0.0.1.attacker.test:7777/client-callback",
    "http://127.0.0.1:7777@attacker.test/client-callback",
    "http://localhost:7777/client-callback",
    "javascript:alert(1)",
  ])("%s", async (redirectUri) => {
    const { url } = app.request({ redirect_uri: redirectUri });
    const page = await stack.browser().open(url);
    expect(page.url.host).toBe("auth.test");
    expect(page.status).toBe(400);
    expect(page.html).toContain("invalid_redirect_uri");
    expect(page.html).toContain("Request id");
  });

  test("and so does an unknown client", async () => {
    const page = await stack.browser().open(app.request({ client_id: "nobody" }).url);
    expect(page).toMatchObject({ status: 400 });
    expect(page.html).toContain("invalid_client");
  });
});

test("a loopback redirect URI may use any port", async () => {
  const changes = { redirect_uri: "http://127.0.0.1:61234/client-callback" };
  const { params, verifier, page } = await app.authorize(stack.browser(), "alice", changes);
  expect(page.url.port).toBe("61234");
  const response = await app.exchange(params.get("code") ?? "", verifier, changes);
  expect(response.status).toBe(200);
});

describe("consent", () => {
  test("names the client, says that its name is not verified, and where the page redirects", async () => {
    const fresh = await registeredApp(stack, { client_name: "<b>Evil & Co</b>" });
    const browser = stack.browser();
    await app.tokens(browser, "alice");
    const page = await browser.open(fresh.request({ scope: "mcp files:read" }).url);
    expect(page.url.pathname).toMatch(/^\/oauth\/interaction\//);
    expect(page.html).not.toContain("<b>Evil");
    for (const fact of [
      "Not verified",
      "this computer (127.0.0.1:7777)",
      "files:read",
      "alice@example.com",
    ]) {
      expect(page.html).toContain(fact);
    }
  });

  test("is requested once, again for more scopes, and again for another route", async () => {
    const fresh = await registeredApp(stack, onTheWeb);
    const browser = stack.browser();
    await fresh.tokens(browser, "alice", { scope: "a b" });
    expect((await browser.open(fresh.request({ scope: "a" }).url)).url.searchParams.get("code")).toBeTruthy();
    const more = await browser.open(fresh.request({ scope: "a c" }).url);
    expect(more.html).toContain('name="decision"');
    const other = await browser.open(fresh.request({ resource: "https://many.test/a", scope: "a" }).url);
    expect(other.html).toContain('name="decision"');
  });

  test("expires after `consent_ttl`, regardless of its use", async () => {
    const web = await registeredApp(stack, onTheWeb);
    const browser = stack.browser();
    await web.tokens(browser, "alice");
    const records = stack.store.authorizationServerRecords;
    const day = 86_400;
    async function age(days: number): Promise<void> {
      for (const { grantId, payload } of await records.grants({
        userId: "company/alice",
        clientId: web.clientId,
      })) {
        const consentedAt = Math.floor(Date.now() / 1000) - days * day;
        await records.upsert({ model: "Grant", id: grantId, payload: { ...payload, consentedAt } });
      }
    }
    await age(89);
    // Each silent authorization creates a new grant that is as old as its consent.
    for (let uses = 0; uses < 2; uses += 1) {
      const silent = await browser.open(web.request().url);
      expect(silent.url.searchParams.get("code"), silent.html).toBeTruthy();
    }
    const oldest = Date.now() / 1000 - 88 * day;
    const grants = await records.grants({ userId: "company/alice", clientId: web.clientId });
    expect(grants.filter(({ payload }) => Number(payload.consentedAt) > oldest)).toEqual([]);
    await age(91);
    expect((await browser.open(web.request().url)).html).toContain('name="decision"');
  });

  test("from before an upgrade, without a redirect URI, is requested once more", async () => {
    const web = await registeredApp(stack, onTheWeb);
    const browser = stack.browser();
    await web.tokens(browser, "alice");
    const records = stack.store.authorizationServerRecords;
    for (const { grantId, payload } of await records.grants({
      userId: "company/alice",
      clientId: web.clientId,
    })) {
      const { redirectUri: _uri, consentedAt: _at, ...before } = payload;
      await records.upsert({ model: "Grant", id: grantId, payload: before });
    }
    expect((await browser.open(web.request().url)).html).toContain('name="decision"');
    await web.tokens(browser, "alice");
    expect((await browser.open(web.request().url)).url.searchParams.get("code")).toBeTruthy();
  });

  test("of one user is not valid for another", async () => {
    const fresh = await registeredApp(stack, onTheWeb);
    await fresh.tokens(stack.browser(), "alice");
    const bobs = stack.browser();
    await app.tokens(bobs, "bob");
    expect((await bobs.open(fresh.request().url)).html).toContain('name="decision"');
  });

  test("is forgotten when its grant ends", async () => {
    const fresh = await registeredApp(stack, onTheWeb);
    const browser = stack.browser();
    const { access_token } = await fresh.tokens(browser, "alice");
    await fresh.post("/oauth/revoke", { token: access_token, client_id: fresh.clientId });
    expect((await browser.open(fresh.request().url)).html).toContain('name="decision"');
  });

  test("denied is access_denied for the client", async () => {
    const fresh = await registeredApp(stack);
    const browser = stack.browser();
    await app.tokens(browser, "alice");
    const page = await browser.open(fresh.request().url);
    const end = await browser.submit(page, {}, "decision=deny");
    expect(end.url.searchParams.get("error")).toBe("access_denied");
    expect(end.url.searchParams.get("iss")).toBe("https://auth.test");
  });

  test.each([
    ["without the CSRF token", { csrf: "" }],
    ["with another session's", { csrf: "A".repeat(43) }],
  ])("posted %s does nothing", async (_name, values) => {
    const fresh = await registeredApp(stack);
    const browser = stack.browser();
    await app.tokens(browser, "alice");
    const page = await browser.open(fresh.request().url);
    const end = await browser.submit(page, values, "decision=allow");
    expect(end).toMatchObject({ status: 403 });
    expect((await browser.open(page.url)).html).toContain('name="decision"');
  });

  test("cannot be given in another browser than the one that started the flow", async () => {
    const fresh = await registeredApp(stack);
    const alices = stack.browser();
    await app.tokens(alices, "alice");
    const page = await alices.open(fresh.request().url);
    const bobs = stack.browser();
    await app.tokens(bobs, "bob");
    expect(await bobs.open(page.url)).toMatchObject({ status: 400 });
  });

  test("cannot be framed or scripted", async () => {
    const fresh = await registeredApp(stack);
    const browser = stack.browser();
    await app.tokens(browser, "alice");
    const { headers } = await browser.open(fresh.request().url);
    expect(headers.get("x-frame-options")).toBe("DENY");
    expect(headers.get("content-security-policy")).toMatch(/default-src 'none'.*frame-ancestors 'none'/);
    expect(headers.get("content-security-policy")).not.toContain("unsafe");
    expect(headers.get("cache-control")).toBe("no-store");
    expect(headers.get("referrer-policy")).toBe("no-referrer");
  });
});

describe("a user whom policy denies access to the server", () => {
  const reason = /^the policy of this gateway denies this user access to the server/;
  afterEach(() => stack.denied.clear());

  test("gets the message before consent, and so does the client; other routes still work", async () => {
    const fresh = await registeredApp(stack);
    const browser = stack.browser();
    stack.denied.add("company/alice one");
    const { url, state } = fresh.request();
    const page = await throughCompany(stack, browser, await browser.open(url), "alice");
    expect(page.status).toBe(403);
    expect(page.html).not.toContain('value="allow"');
    const text = parse(page.html).text;
    for (const fact of ["You may not use one", "alice@example.com", "not_allowed", "Ask your administrator"])
      expect(text).toContain(fact);
    const [, id] = /<code>([0-9a-f-]{36})<\/code>/.exec(page.html) ?? [];
    const line = stack.log.find((one) => one.includes("authorization denied by policy"));
    expect(JSON.parse(line ?? "{}")).toMatchObject({
      requestId: id,
      userId: "company/alice",
      clientId: fresh.clientId,
      route: "one",
      reason: "not_allowed",
    });
    const end = await browser.submit(page, {}, "decision=deny");
    expect(Object.fromEntries(end.url.searchParams)).toMatchObject({
      error: "access_denied",
      error_description: expect.stringMatching(reason),
      state,
      iss: "https://auth.test",
    });
    const other = await browser.open(fresh.request({ resource: "https://many.test/a" }).url);
    expect(other.html).toContain('value="allow"');
  });

  test("gets no code by a remembered consent or with prompt=none", async () => {
    const web = await registeredApp(stack, onTheWeb);
    const browser = stack.browser();
    await web.tokens(browser, "alice");
    stack.denied.add("company/alice one");
    const page = await browser.open(web.request().url);
    expect(page.status).toBe(403);
    expect(page.html).toContain("You may not use one");
    const silent = await browser.open(web.request({ prompt: "none" }).url);
    expect(Object.fromEntries(silent.url.searchParams)).toMatchObject({
      error: "access_denied",
      error_description: expect.stringMatching(reason),
    });
    stack.denied.clear();
    expect((await browser.open(web.request().url)).url.searchParams.get("code")).toBeTruthy();
  });

  test("policy may change while the page is open", async () => {
    const fresh = await registeredApp(stack);
    const browser = stack.browser();
    const start = await browser.open(fresh.request().url);
    const asked = await throughCompany(stack, browser, start, "alice");
    stack.denied.add("company/alice one");
    const deniedPage = await browser.submit(asked, {}, "decision=allow");
    expect(deniedPage.status).toBe(403);
    stack.denied.clear();
    const again = await browser.open(deniedPage.url);
    const end = await browser.submit(again, {}, "decision=allow");
    expect(end.url.searchParams.get("code")).toBeTruthy();
  });
});

describe("prompt", () => {
  test("none is login_required without a session, and consent_required without consent", async () => {
    const fresh = await registeredApp(stack);
    const browser = stack.browser();
    const signedOut = await browser.open(fresh.request({ prompt: "none" }).url);
    expect(signedOut.url.searchParams.get("error")).toBe("login_required");
    await app.tokens(browser, "alice");
    // oidc-provider has no session yet: the browser has to pass its sign-in step once.
    const signedIn = await browser.open(fresh.request({ prompt: "none" }).url);
    expect(signedIn.url.searchParams.get("error")).toBe("consent_required");
  });

  test("login requires a new sign-in at the provider, even with a session", async () => {
    const browser = stack.browser();
    await app.tokens(browser, "alice");
    await stack.ageSignIn("company/alice", 5);
    const page = await browser.open(app.request({ prompt: "login" }).url);
    expect(page.url.origin).toBe(stack.company.issuer);
  });

  test("a route that uses sign-in tokens requires a new sign-in after they have expired, and only once", async () => {
    const browser = stack.browser();
    const signIn = await browser.open("https://auth.test/.pomerium/sign_in?return_to=/whoami");
    await throughCompany(stack, browser, signIn, "alice");
    await stack.ageSignIn("company/alice", 300);
    const web = await registeredApp(stack, onTheWeb);
    await web.tokens(browser, "alice");
    stack.connections.set("company/alice one", "sign_in_needed");
    const page = await browser.open(web.request().url);
    expect(page.url.origin).toBe(stack.company.issuer);
    // The sign-in brought no new token.
    const end = await throughCompany(stack, browser, page, "alice");
    expect(end.url.searchParams.get("code")).toBeTruthy();
    stack.connections.delete("company/alice one");
  });

  test("consent asks despite a remembered consent", async () => {
    const browser = stack.browser();
    const web = await registeredApp(stack, onTheWeb);
    await web.tokens(browser, "alice");
    expect((await browser.open(web.request({ prompt: "consent" }).url)).html).toContain('name="decision"');
  });
});

test("two clients in two tabs of a new browser do not interfere", async () => {
  const other = await registeredApp(stack);
  const browser = stack.browser();
  const first = app.request();
  const second = other.request({ resource: "https://many.test/b" });
  const firstTab = await browser.open(first.url);
  const secondTab = await browser.open(second.url);
  const secondEnd = await browser.agree(secondTab, atCompany("alice"));
  const firstEnd = await browser.agree(firstTab, atCompany("alice"));
  expect(firstEnd.url.searchParams.get("state")).toBe(first.state);
  expect(secondEnd.url.searchParams.get("state")).toBe(second.state);
  const tokens = await app.exchange(firstEnd.url.searchParams.get("code") ?? "", first.verifier);
  expect(tokens.status).toBe(200);
});

test("if another user signs in during the flow, it restarts for that user", async () => {
  const fresh = await registeredApp(stack);
  const browser = stack.browser();
  await app.tokens(browser, "alice");
  const page = await browser.open(fresh.request().url);
  expect(page.html).toContain("alice@example.com");
  const link = parse(page.html).querySelector('a[href*="switch=1"]')?.getAttribute("href");
  const company = await browser.open(new URL(link ?? "", page.url));
  const asked = await throughCompany(stack, browser, company, "bob");
  const again = await browser.submit(asked, {});
  expect(again.url.pathname).toMatch(/^\/oauth\/interaction\//);
  expect(again.html).toContain("bob@example.com");
});
