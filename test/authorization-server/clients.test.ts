import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { appOf, registeredApp } from "./mcp-app.ts";
import { type AuthorizationServerStack, startAuthorizationServer } from "./start-authorization-server.ts";

let stack: AuthorizationServerStack;
beforeAll(async () => {
  stack = await startAuthorizationServer(`authorization_server:
  clients:
    - {client_id: known, client_secret: known-secret, client_name: Known app, redirect_uris: ["http://localhost/client-callback"]}
`);
});
afterAll(() => stack.close());

const register = (body: unknown, path = "/oauth/register") =>
  stack.fetch(`https://auth.test${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", origin: "https://web.test" },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });

describe("registration (RFC 7591)", () => {
  test("answers 201 with id and issue time, also to web pages", async () => {
    const response = await register({
      redirect_uris: ["https://app.test/cb"],
      token_endpoint_auth_method: "none",
    });
    expect(response.status).toBe(201);
    expect(response.headers.get("access-control-allow-origin")).toBe("*");
    expect(response.headers.get("cache-control")).toBe("no-store");
    const client = (await response.json()) as Record<string, unknown>;
    expect(client).toMatchObject({
      client_id: expect.any(String),
      client_id_issued_at: expect.any(Number),
      redirect_uris: ["https://app.test/cb"],
      grant_types: ["authorization_code", "refresh_token"],
      token_endpoint_auth_method: "none",
    });
    expect(client).not.toHaveProperty("client_secret");
    expect(client).not.toHaveProperty("registration_access_token");
  });

  test("issues a secret to a client that requests one or names no method", async () => {
    const client = (await (await register({ redirect_uris: ["https://app.test/cb"] })).json()) as object;
    expect(client).toMatchObject({
      client_secret: expect.any(String),
      client_secret_expires_at: 0,
      token_endpoint_auth_method: "client_secret_basic",
    });
  });

  test("also answers at the Pomerium path", async () => {
    const response = await register({ redirect_uris: ["https://app.test/cb"] }, "/.pomerium/mcp/register");
    expect(response.status).toBe(201);
  });

  test("drops unknown grant types and scopes instead of rejecting the client", async () => {
    const response = await register({
      redirect_uris: ["http://127.0.0.1/", "vscode://vscode.github-authentication/did-authenticate"],
      grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
      response_types: ["code"],
      scope: "mcp tools:read",
      token_endpoint_auth_method: "none",
      application_type: "web",
    });
    expect(await response.json()).toMatchObject({
      grant_types: ["authorization_code", "refresh_token"],
      application_type: "native",
    });
  });

  test.each([
    ["no redirect URI", { redirect_uris: [] }, "invalid_redirect_uri"],
    ["redirect_uris missing", {}, "invalid_redirect_uri"],
    ["plain http", { redirect_uris: ["http://app.test/cb"] }, "invalid_redirect_uri"],
    ["a fragment", { redirect_uris: ["https://app.test/cb#x"] }, "invalid_redirect_uri"],
    ["user information", { redirect_uris: ["https://good.test@evil.test/cb"] }, "invalid_redirect_uri"],
    ["javascript:", { redirect_uris: ["javascript:alert(1)"] }, "invalid_redirect_uri"],
    ["data:", { redirect_uris: ["data:text/html,x"] }, "invalid_redirect_uri"],
    ["an invalid URL", { redirect_uris: ["cb"] }, "invalid_redirect_uri"],
    ["redirect_uris as text", { redirect_uris: "https://app.test/cb" }, "invalid_redirect_uri"],
    [
      "too many",
      { redirect_uris: Array.from({ length: 21 }, (_, i) => `https://app.test/${i}`) },
      "invalid_redirect_uri",
    ],
    [
      "an unknown auth method",
      { redirect_uris: ["https://app.test/cb"], token_endpoint_auth_method: "mtls" },
      "invalid_client_metadata",
    ],
    [
      "only unknown grants",
      { redirect_uris: ["https://app.test/cb"], grant_types: ["password"] },
      "invalid_client_metadata",
    ],
    [
      "a name that is too long",
      { redirect_uris: ["https://app.test/cb"], client_name: "x".repeat(201) },
      "invalid_client_metadata",
    ],
    [
      "a name that is not text",
      { redirect_uris: ["https://app.test/cb"], client_name: { a: 1 } },
      "invalid_client_metadata",
    ],
    ["a list", [], "invalid_request"],
    ["invalid JSON", "{", "invalid_request"],
    [
      "a body too large",
      { redirect_uris: ["https://app.test/cb"], contacts: ["x".repeat(60_000)] },
      "invalid_request",
    ],
  ])("rejects %s", async (_name, body, error) => {
    const response = await register(body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error, error_description: expect.any(String) });
  });

  test("disabled: 403, and the metadata does not offer it", async () => {
    const off = "authorization_server:\n  dynamic_client_registration: false\n";
    await stack.reload((yaml) => yaml.replace("authorization_server:\n", off));
    const response = await register({ redirect_uris: ["https://app.test/cb"] });
    expect(response.status).toBe(403);
    expect(await response.json()).toMatchObject({ error: "registration_not_supported" });
    const metadata = await (
      await stack.fetch("https://auth.test/.well-known/oauth-authorization-server")
    ).json();
    expect(metadata).not.toHaveProperty("registration_endpoint");
    await stack.reload((yaml) => yaml.replace(off, "authorization_server:\n"));
  });
});

test("a pre-registered client works with its secret, on any loopback port", async () => {
  const app = appOf(stack, "known", "known-secret");
  const changes = { redirect_uri: "http://localhost:51000/client-callback" };
  const { params, verifier, page } = await app.authorize(stack.browser(), "alice", changes);
  expect(page.url.port).toBe("51000");
  const code = params.get("code") ?? "";
  expect((await app.exchange(code, verifier, { ...changes, client_secret: "wrong" })).status).toBe(401);
  expect((await app.exchange(code, verifier, changes)).status).toBe(200);
});

describe("Client ID Metadata Documents", () => {
  const id = "https://app.example/oauth/client.json";
  const good = {
    client_id: id,
    client_name: "Documented app",
    redirect_uris: ["http://127.0.0.1:7777/client-callback"],
    grant_types: ["authorization_code", "refresh_token"],
    token_endpoint_auth_method: "none",
  };
  const serve = (document: unknown, url = id, init?: ResponseInit) =>
    stack.documents.set(
      url,
      () => new Response(typeof document === "string" ? document : JSON.stringify(document), init),
    );
  let count = 0;
  beforeEach(() => {
    stack.documents.clear();
    count += 1;
  });
  // Documents are cached, so each case uses another URL.
  const own = (document: object) => {
    const url = `https://app.example/oauth/${count}.json`;
    serve({ ...document, client_id: url }, url);
    return url;
  };

  test("a client with a document is accepted; the consent page names its publisher", async () => {
    const app = appOf(stack, own(good));
    const browser = stack.browser();
    await (await registeredApp(stack)).tokens(browser, "alice");
    const page = await browser.open(app.request().url);
    expect(page.html).toContain("Documented app");
    expect(page.html).toContain("Published by app.example");
    const tokens = await app.tokens(browser, "alice");
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
    const created = await stack.store.auditEvents({ limit: 1000, action: "grant.created" });
    const detail = { client_name: "Documented app" };
    expect(created.at(-1)).toMatchObject({ clientId: app.clientId, detail });
  });

  test("the document of an allowed client is fetched again at the token endpoint if it is not cached", async () => {
    const url = own(good);
    const app = appOf(stack, url);
    const tokens = await app.tokens(stack.browser(), "alice");
    // A new key creates a new provider, which has no documents.
    await stack.keys.rotate("external_token", 0, 3600);
    const document = stack.documents.get(url);
    let fetched = 0;
    stack.documents.set(url, () => {
      fetched += 1;
      return document?.() ?? new Response(null, { status: 404 });
    });
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
    expect(fetched).toBe(1);
  });

  test("a document without an auth method is a public client's", async () => {
    const { token_endpoint_auth_method: _none, ...rest } = good;
    await appOf(stack, own(rest)).tokens(stack.browser(), "alice");
  });

  test("a loopback redirect URI may use any port, but not any path", async () => {
    const app = appOf(stack, own(good));
    const browser = stack.browser();
    const free = await app.authorize(browser, "alice", {
      redirect_uri: "http://127.0.0.1:9/client-callback",
    });
    expect(free.params.get("code")).toBeTruthy();
    const bent = await browser.open(app.request({ redirect_uri: "http://127.0.0.1:7777/elsewhere" }).url);
    expect(bent.status).toBe(400);
  });

  test.each<[string, object | string, ResponseInit?]>([
    ["names another client_id", { ...good, client_id: "https://app.example/other" }],
    ["has no redirect URIs", { ...good, redirect_uris: undefined }],
    ["has a secret", { ...good, client_secret: "s" }],
    ["requests client_secret_basic", { ...good, token_endpoint_auth_method: "client_secret_basic" }],
    ["requests client_secret_post", { ...good, token_endpoint_auth_method: "client_secret_post" }],
    ["is not JSON", "<html>"],
    ["is a list", "[]"],
    ["redirects", { ...good }, { status: 302, headers: { location: "https://app.example/x" } }],
    ["does not exist", "", { status: 404 }],
    ["lists a plain http redirect URI", { ...good, redirect_uris: ["http://app.example/cb"] }],
  ])("a document that %s is rejected on a page", async (_name, document, init) => {
    const url = `https://app.example/bad/${count}-${Math.random()}.json`;
    const body =
      typeof document === "string"
        ? document
        : {
            client_id: url,
            ...document,
            ...("client_id" in document && document.client_id === id && { client_id: url }),
          };
    serve(body, url, init);
    const page = await stack.browser().open(appOf(stack, url).request().url);
    expect(page.url.host).toBe("auth.test");
    expect(page.status).toBe(400);
    expect(page.html).toMatch(/invalid_client|invalid_redirect_uri/);
  });

  test.each([
    [5 * 1024, "read", {}, 200],
    [5 * 1024 + 1, "refused", {}, 400],
    [5 * 1024 + 1, "refused", { "content-length": String(5 * 1024 + 1) }, 400],
  ])("a document of %i bytes is %s", async (length, _done, headers: Record<string, string>, status) => {
    const url = `https://app.example/long/${length}-${Object.keys(headers).length}.json`;
    serve(JSON.stringify({ ...good, client_id: url }).padEnd(length), url, { headers });
    const browser = stack.browser();
    await (await registeredApp(stack)).tokens(browser, "alice");
    const page = await browser.open(appOf(stack, url).request().url);
    expect(page.status).toBe(status);
    expect(page.html).toContain(status === 200 ? "Documented app" : "invalid_client");
  });

  test("a document is not fetched if its URL may not be a client_id", async () => {
    const asked: string[] = [];
    const setting = 'authorization_server:\n  allowed_client_id_domains: ["app.good.example"]\n';
    await stack.reload((yaml) => yaml.replace("authorization_server:\n", setting));
    for (const url of [
      "https://inner.example/client.json",
      "https://app.good.example/",
      `https://app.good.example/${"x".repeat(600)}`,
    ]) {
      stack.documents.set(url, () => {
        asked.push(url);
        return Response.json({ ...good, client_id: url });
      });
      expect((await stack.browser().open(appOf(stack, url).request().url)).status).toBe(400);
    }
    expect(asked).toEqual([]);
    await stack.reload((yaml) => yaml.replace(setting, "authorization_server:\n"));
  });

  test.each([
    "http://app.example/client.json",
    "https://app.example/",
    "https://app.example",
    "https://app.example/a/../client.json",
    "https://app.example/%2e%2e/client.json",
    "https://app.example/client.json#me",
    "https://user@app.example/client.json",
    "https://app.example/?x=1",
    `https://app.example/${"x".repeat(600)}`,
  ])("%s is not a client id", async (clientId) => {
    serve({ ...good, client_id: clientId }, clientId);
    const page = await stack.browser().open(appOf(stack, clientId).request().url);
    expect(page.status).toBe(400);
    expect(page.html).toContain("invalid_client");
  });

  test("only hosts in allowed_client_id_domains, immediately after a change", async () => {
    const app = appOf(stack, own(good));
    const browser = stack.browser();
    await app.tokens(browser, "alice");
    const setting = 'authorization_server:\n  allowed_client_id_domains: ["*.Good.example"]\n';
    await stack.reload((yaml) => yaml.replace("authorization_server:\n", setting));
    expect((await browser.open(app.request().url)).status).toBe(400);
    for (const [host, allowed] of [
      ["app.good.example", true],
      ["a.b.good.example", true],
      ["good.example", false],
      ["evilgood.example", false],
      ["good.example.evil.example", false],
    ] as const) {
      const url = `https://${host}/${count}.json`;
      serve({ ...good, client_id: url }, url);
      const page = await browser.open(appOf(stack, url).request().url);
      expect([host, page.status]).toEqual([host, allowed ? 200 : 400]);
    }
    await stack.reload((yaml) => yaml.replace(setting, "authorization_server:\n"));
  });
});
