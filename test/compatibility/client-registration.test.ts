import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { appOf, type McpApp, registeredApp } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";
import { problemsOf } from "../config/problems-of.ts";
import type { HttpBrowser } from "../support/http-browser.ts";

let stack: AuthorizationServerStack;
/** A user who has signed in once; each client asks for consent again. */
let browser: HttpBrowser;
beforeAll(async () => {
  stack = await startAuthorizationServer();
  browser = stack.browser();
});
afterAll(() => stack.close());

const cb = "https://app.test/client-callback";

async function register(body: unknown, contentType: string | null = "application/json") {
  const response = await stack.fetch("https://auth.test/oauth/register", {
    method: "POST",
    headers: contentType === null ? {} : { "content-type": contentType },
    body: new TextEncoder().encode(typeof body === "string" ? body : JSON.stringify(body)),
  });
  return { status: response.status, answer: (await response.json()) as Record<string, unknown> };
}

describe("a registration is read leniently", () => {
  test.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    ["client_uri: null, contacts: null", { client_uri: null, contacts: null }, {}],
    ["every optional member null", nulls(), { grant_types: ["authorization_code", "refresh_token"] }],
    ["every optional member empty", empties(), { response_types: ["code"] }],
    ["an empty text among the contacts", { contacts: ["", null, "a@b.test"] }, { contacts: ["a@b.test"] }],
    ["contacts as text", { contacts: "a@b.test" }, { contacts: ["a@b.test"] }],
    ["contacts that are no e-mail addresses", { contacts: ["https://b.test/help"] }, {}],
    [
      "grant types as text",
      { grant_types: "authorization_code refresh_token" },
      { grant_types: ["authorization_code", "refresh_token"] },
    ],
    ["response types as text", { response_types: "code" }, { response_types: ["code"] }],
    [
      "grant types that are not ours beside those that are",
      { grant_types: ["implicit", "authorization_code", "urn:x", null, 7] },
      { grant_types: ["authorization_code"] },
    ],
    [
      "response types that are not ours",
      { response_types: ["code", "code id_token"] },
      { response_types: ["code"] },
    ],
    ["scope: null", { scope: null }, {}],
    ["scope as a list", { scope: ["mcp", "tools:read"] }, {}],
    ["scopes nobody knows", { scope: "mcp x:y" }, {}],
    ["id_token_signed_response_alg", { id_token_signed_response_alg: "RS256" }, {}],
    ["id_token_signed_response_alg with a shared key", { id_token_signed_response_alg: "HS256" }, {}],
    ["a software statement", { software_statement: "a.b.c" }, {}],
    [
      "members nobody knows",
      { backchannel_logout_uri: null, x: { y: 1 }, dpop_bound_access_tokens: false },
      {},
    ],
    ["logo and terms that are no URLs", { logo_uri: "logo.png", tos_uri: "none", policy_uri: 7 }, {}],
    ["default_max_age as text", { default_max_age: "3600" }, {}],
    ["subject_type: pairwise", { subject_type: "pairwise" }, {}],
    ["application_type: null", { application_type: null }, { application_type: "web" }],
    ["an application type of its own", { application_type: "browser" }, { application_type: "web" }],
    ["software_version as a number", { software_version: 1.2 }, { software_version: "1.2" }],
    ["client_name as a number", { client_name: 42 }, { client_name: "42" }],
    ["client_name as a list", { client_name: ["My app"] }, { client_name: "My app" }],
    ["client_name of blanks", { client_name: "  " }, {}],
    ["jwks: null, jwks_uri: null", { jwks: null, jwks_uri: null }, {}],
    ["response_modes that are not ours", { response_modes: ["form_post"] }, {}],
    ["a signing algorithm for no assertion", { token_endpoint_auth_signing_alg: "RS256" }, {}],
    ["a secret of the client's own", { client_secret: "mine", client_secret_expires_at: "0" }, {}],
  ])("%s", async (_name, members, expected) => {
    const { status, answer } = await register({
      redirect_uris: [cb],
      token_endpoint_auth_method: "none",
      ...members,
    });
    expect([status, answer.error_description]).toEqual([201, undefined]);
    expect(answer).toMatchObject({ token_endpoint_auth_method: "none", redirect_uris: [cb], ...expected });
    expect(Object.values(answer)).not.toContain(null);
    expect(answer).not.toHaveProperty("client_secret");
    // A client that insists on what it has registered also succeeds.
    const app = appOf(stack, String(answer.client_id), undefined, cb);
    expect((await stack.browser().open(app.request().url)).url.pathname).not.toBe("/oauth/authorize");
  });

  test.each([null, ""])(
    "token_endpoint_auth_method: %j is RFC 7591's default, with a secret, and never none",
    async (method) => {
      const { status, answer } = await register({ redirect_uris: [cb], token_endpoint_auth_method: method });
      expect(status).toBe(201);
      expect(answer).toMatchObject({
        token_endpoint_auth_method: "client_secret_basic",
        client_secret: expect.any(String),
      });
    },
  );

  test.each([
    ["redirect_uris: null", { redirect_uris: null }],
    ["redirect_uris as text", { redirect_uris: cb }],
    ["redirect_uris with null inside", { redirect_uris: [cb, null] }],
    ["redirect_uris with an empty text inside", { redirect_uris: [cb, ""] }],
    ["an authentication method nobody knows", { token_endpoint_auth_method: "tls_client_auth" }],
    ["an authentication method as a list", { token_endpoint_auth_method: ["none"] }],
    [
      "keys twice",
      { token_endpoint_auth_method: "private_key_jwt", jwks: { keys: [] }, jwks_uri: "https://a.test/k" },
    ],
  ])("strict: %s is rejected", async (_name, members) => {
    const { status, answer } = await register({ redirect_uris: [cb], ...members });
    expect(status).toBe(400);
    expect(answer).toMatchObject({
      error: expect.stringMatching(/^invalid_(redirect_uri|client_metadata)$/),
      error_description: expect.any(String),
      request_id: expect.any(String),
    });
  });

  test.each([
    "application/json; charset=UTF-8",
    "application/json;charset=utf8",
    'application/json; charset="utf-8"',
    "application/json;",
    "application/json; charset",
    "Application/JSON ; odata=verbose",
    "application/json, application/json",
    "",
    null,
  ])("content type %j", async (contentType) => {
    const { status, answer } = await register({ redirect_uris: [cb], client_name: "Zoë" }, contentType);
    expect([status, answer.client_name]).toEqual([201, "Zoë"]);
  });

  test("a byte order mark in front of the JSON", async () => {
    const { status } = await register(`\uFEFF${JSON.stringify({ redirect_uris: [cb] })}`);
    expect(status).toBe(201);
  });

  test("another media type is rejected, and the response names the right one", async () => {
    const { status, answer } = await register("a=b", "application/x-www-form-urlencoded");
    expect([status, answer.error]).toEqual([400, "invalid_request"]);
    expect(answer.error_description).toContain("application/json");
  });
});

describe("a client document is read like a registration", () => {
  let count = 0;
  const published = (members: Record<string, unknown>, suffix = "") => {
    count += 1;
    const id = `https://docs.example/client-${count}.json${suffix}`;
    stack.documents.set(id, () =>
      Response.json({ client_id: id, client_name: "Documented", redirect_uris: [cb], ...members }),
    );
    return appOf(stack, id, undefined, cb);
  };
  const shown = async (app: McpApp) => {
    const page = await browser.open(app.request().url);
    return page.html;
  };

  test.each<[string, Record<string, unknown>]>([
    ["logo_uri: null", { logo_uri: null }],
    ["every optional member null", { ...nulls(), client_name: "Documented" }],
    ["every optional member empty", { ...empties(), client_name: "Documented" }],
    ["client_uri in plain http", { client_uri: "http://docs.example" }],
    ["client_secret: null", { client_secret: null, client_secret_expires_at: null }],
    ["grant types as text", { grant_types: "authorization_code" }],
    ["id_token_signed_response_alg", { id_token_signed_response_alg: "RS256" }],
    ["members nobody knows", { backchannel_logout_uri: "x", "@context": ["https://schema.test"] }],
  ])("%s", async (_name, members) => {
    const tokens = await published(members).tokens(browser, "alice");
    expect(tokens.access_token).toBeTruthy();
  });

  test("its URL may have a query", async () => {
    const tokens = await published({}, "?v=2").tokens(browser, "alice");
    expect(tokens.access_token).toBeTruthy();
  });

  test.each<[string, Record<string, unknown>]>([
    ["redirect_uris: null", { redirect_uris: null }],
    ["an authentication method of null, which is not none", { token_endpoint_auth_method: null }],
    ["a shared secret", { client_secret: "s" }],
    ["another client_id", { client_id: "https://docs.example/other" }],
  ])("strict: %s is rejected", async (_name, members) => {
    expect(await shown(published(members))).toMatch(/invalid_(client|redirect_uri|client_metadata)/);
  });
});

describe("an unusable client document: page and log state the reason", () => {
  let count = 0;
  const at = (host: string) => `https://${host}/why-${++count}.json`;
  const setting = async (lines: string, work: () => Promise<void>) => {
    const section = `authorization_server:\n${lines}\nroutes:`;
    await stack.reload((yaml) => yaml.replace("routes:", section));
    try {
      await work();
    } finally {
      await stack.reload((yaml) => yaml.replace(section, "routes:"));
    }
  };
  async function refusal(id: string) {
    const logged = stack.log.length;
    const page = await browser.open(appOf(stack, id, undefined, cb).request().url);
    expect(page.url.host).toBe("auth.test");
    expect(page.status).toBe(400);
    const lines = stack.log.slice(logged).map((line) => JSON.parse(line) as Record<string, unknown>);
    const line = lines.find(({ msg }) => msg === "authorization server rejected the request");
    expect(page.html).toContain(String(line?.requestId));
    return { html: page.html, reason: String(line?.reason), code: line?.code };
  }

  test.each<[string, () => Response, RegExp, RegExp]>([
    ["its host turns us away", () => new Response("bots!", { status: 403 }), /HTTP status 403/, /403/],
    ["its host cannot be reached", () => Response.error(), /could not (be )?fetch/, /fetch/],
    ["it is a page", () => new Response("<html>"), /is not JSON/, /JSON/],
    ["it is too long", () => Response.json({ x: "x".repeat(6000) }), /too long/, /too large/],
    [
      "it is moved",
      () => new Response(null, { status: 302, headers: { location: "/x" } }),
      /HTTP status 302/,
      /302/,
    ],
    [
      "it names another client",
      () => Response.json({ client_id: "https://a.test/b" }),
      /client_id does not match/,
      /match/,
    ],
    [
      "it has no redirect URIs",
      () => Response.json({ client_id: `https://docs.example/why-${count}.json` }),
      /redirect_uris/,
      /redirect_uris/,
    ],
  ])("%s", async (_name, document, shown, logged) => {
    const id = at("docs.example");
    stack.documents.set(id, document);
    const { html, reason } = await refusal(id);
    expect(html).toMatch(shown);
    expect(html).not.toContain("never registered");
    expect(reason).toMatch(logged);
  });

  test("an unreachable document: the page names the host, but not the cause behind it", async () => {
    const { html, reason } = await refusal(at("nowhere.example"));
    expect(html).toContain(
      "could not fetch the application’s metadata document from nowhere.example".replace("’", "&#39;"),
    );
    expect(reason).toContain("fetch failed");
  });

  test("its host is not in the list", async () => {
    await setting('  allowed_client_id_domains: ["*.other.example"]', async () => {
      const { html, reason } = await refusal(at("docs.example"));
      expect(html).toContain("published by docs.example: the host is not on its allow list");
      expect(reason).toContain("docs.example");
    });
  });

  test("client_id_metadata_document: false: not offered, not fetched, and the error says so", async () => {
    const id = at("docs.example");
    stack.documents.set(id, () => {
      throw new Error("nobody fetches this");
    });
    await setting("  client_id_metadata_document: false", async () => {
      for (const url of [
        "https://auth.test/.well-known/oauth-authorization-server",
        "https://auth.test/.well-known/openid-configuration",
        "https://one.test/.well-known/oauth-authorization-server",
      ]) {
        const metadata = (await (await stack.fetch(url)).json()) as object;
        expect(metadata).not.toHaveProperty("client_id_metadata_document_supported");
        expect(metadata).toHaveProperty("registration_endpoint");
      }
      expect((await refusal(id)).html).toContain("does not accept Client ID Metadata Documents");
    });
  });

  test("disabled while a client is allowed: the response to its refresh says so, with a request id", async () => {
    const id = at("docs.example");
    stack.documents.set(id, () => Response.json({ client_id: id, redirect_uris: [cb] }));
    const app = appOf(stack, id, undefined, cb);
    const tokens = await app.tokens(browser, "alice");
    await setting("  client_id_metadata_document: false", async () => {
      const response = await app.refresh(tokens.refresh_token);
      expect(response.status).toBeGreaterThanOrEqual(400);
      expect(await response.json()).toMatchObject({
        error: "invalid_client",
        error_description: expect.stringContaining("does not accept Client ID Metadata Documents"),
        request_id: expect.any(String),
      });
    });
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
  });

  test("check-config warns about a list of domains, unless documents are disabled", () => {
    const file = (section: string) =>
      `issuer: https://auth.example.com\nsign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}\nauthorization_server: {${section}}\nroutes: [{id: t, from: https://t.example.com, to: http://x, mcp: {}, policy: [{allow: {and: [{accept: true}]}}]}]\n`;
    expect(problemsOf(file("allowed_client_id_domains: [claude.ai]"))).toEqual([
      expect.stringMatching(/warning .*allowed_client_id_domains: .* client_id_metadata_document: false/),
    ]);
    expect(
      problemsOf(file("allowed_client_id_domains: [claude.ai], client_id_metadata_document: false")),
    ).toEqual([]);
  });
});

describe("the token endpoint", () => {
  const basic = (text: string) => `Basic ${Buffer.from(text).toString("base64")}`;

  async function code(app: McpApp) {
    const { params, verifier } = await app.authorize(browser, "alice");
    return { code: params.get("code") ?? "", verifier };
  }

  test.each<[string, (id: string) => string, boolean]>([
    ["Basic with an empty secret", (id) => basic(`${id}:`), false],
    ["the same in lower case", (id) => basic(`${id}:`).replace("Basic", "basic"), false],
    ["the same with two spaces", (id) => basic(`${id}:`).replace("Basic ", "BASIC  "), false],
    ["Basic with an empty secret beside client_id", (id) => basic(`${id}:`), true],
  ])("a public client may send %s", async (_name, header, beside) => {
    const app = await registeredApp(stack);
    const { code: value, verifier } = await code(app);
    const clientId = beside ? app.clientId : undefined;
    const form = {
      grant_type: "authorization_code",
      code: value,
      code_verifier: verifier,
      redirect_uri: app.redirectUri,
      client_id: clientId,
      client_secret: "",
    };
    const response = await app.post("/oauth/token", form, { authorization: header(app.clientId) });
    expect(response.status, await response.clone().text()).toBe(200);
    const tokens = (await response.json()) as { refresh_token: string };
    const refreshed = await app.post(
      "/oauth/token",
      { grant_type: "refresh_token", refresh_token: tokens.refresh_token, client_id: clientId },
      { authorization: header(app.clientId) },
    );
    expect(refreshed.status, await refreshed.clone().text()).toBe(200);
    const again = (await refreshed.json()) as { refresh_token: string };
    const revoked = await app.post(
      "/oauth/revoke",
      { token: again.refresh_token, token_type_hint: "whatever", client_id: clientId },
      { authorization: header(app.clientId) },
    );
    expect(revoked.status).toBe(200);
  });

  test("a client with a document may send its URL, encoded or not, with an empty secret", async () => {
    const id = "https://docs.example/basic.json";
    stack.documents.set(id, () => Response.json({ client_id: id, redirect_uris: [cb] }));
    const app = appOf(stack, id, undefined, cb);
    for (const sent of [id, encodeURIComponent(id)]) {
      const { code: value, verifier } = await code(app);
      const form = {
        grant_type: "authorization_code",
        code: value,
        code_verifier: verifier,
        redirect_uri: cb,
      };
      const response = await app.post("/oauth/token", form, { authorization: basic(`${sent}:`) });
      expect(response.status, await response.clone().text()).toBe(200);
    }
  });

  test("strict: an empty secret does not authenticate a client that has one, and Basic is challenged", async () => {
    const app = await registeredApp(stack, { token_endpoint_auth_method: undefined });
    const { code: value, verifier } = await code(app);
    const form = {
      grant_type: "authorization_code",
      code: value,
      code_verifier: verifier,
      redirect_uri: app.redirectUri,
    };
    for (const client_id of [undefined, app.clientId]) {
      const response = await app.post(
        "/oauth/token",
        { ...form, client_id },
        { authorization: basic(`${app.clientId}:`) },
      );
      expect([response.status, await response.json()]).toMatchObject([401, { error: "invalid_client" }]);
      expect(response.headers.get("www-authenticate")).toMatch(/^Basic /);
    }
  });

  test("strict: Basic of one client together with the id of another is rejected", async () => {
    const [one, other] = [await registeredApp(stack), await registeredApp(stack)];
    const form = { grant_type: "refresh_token", refresh_token: "x", client_id: other.clientId };
    const response = await one.post("/oauth/token", form, { authorization: basic(`${one.clientId}:`) });
    expect([response.status, await response.json()]).toMatchObject([400, { error: "invalid_request" }]);
  });

  test.each([
    "application/x-www-form-urlencoded;charset=utf8",
    "application/x-www-form-urlencoded;",
    'application/x-www-form-urlencoded; charset="UTF-8"',
    "APPLICATION/X-WWW-FORM-URLENCODED; charset",
    "",
  ])("reads a form with content type %j", async (contentType) => {
    const app = await registeredApp(stack);
    const { code: value, verifier } = await code(app);
    const form = {
      grant_type: "authorization_code",
      code: value,
      code_verifier: verifier,
      redirect_uri: app.redirectUri,
      client_id: app.clientId,
      client_secret: "",
      resource: "",
      scope: "",
    };
    const response = await app.post("/oauth/token", form, { "content-type": contentType });
    expect(response.status, await response.clone().text()).toBe(200);
    expect(await response.json()).toMatchObject({ token_type: "Bearer" });
  });

  test("every error has a request id, the cause, and what to do", async () => {
    const app = await registeredApp(stack);
    const cases: [Record<string, string>, number, string, RegExp][] = [
      [
        {
          grant_type: "authorization_code",
          code: "x",
          code_verifier: "y".repeat(43),
          redirect_uri: app.redirectUri,
        },
        400,
        "invalid_grant",
        /code.*(not found|unknown).*authorize again/i,
      ],
      [
        { grant_type: "refresh_token", refresh_token: "x" },
        400,
        "invalid_grant",
        /refresh token.*authorize again/i,
      ],
      [
        { grant_type: "refresh_token", refresh_token: "x", client_id: "gone" },
        401,
        "invalid_client",
        /register again/i,
      ],
      [{ grant_type: "password" }, 400, "unsupported_grant_type", /authorization_code/],
    ];
    for (const [form, status, error, description] of cases) {
      const response = await app.post("/oauth/token", { client_id: app.clientId, ...form });
      expect([response.status, await response.json()]).toMatchObject([
        status,
        { error, error_description: expect.stringMatching(description), request_id: expect.any(String) },
      ]);
    }
  });
});

describe("the authorization endpoint", () => {
  test("accepts a posted form", async () => {
    const app = await registeredApp(stack, { redirect_uris: [cb] });
    const { url } = app.request();
    for (const at of [
      "https://auth.test/oauth/authorize",
      "https://auth.test/.pomerium/mcp/authorize",
      "https://one.test/.pomerium/mcp/authorize",
    ]) {
      const response = await stack.fetch(at, {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: `${url.searchParams}&client_secret=not-in-an-address`,
        redirect: "manual",
      });
      expect(response.status).toBe(303);
      const location = new URL(response.headers.get("location") ?? "", at);
      expect(location.origin + location.pathname).toBe("https://auth.test/oauth/authorize");
      expect(location.href).not.toContain("not-in-an-address");
      const page = await stack.browser().open(location);
      // On to sign-in.
      expect(page.url.origin).toBe(stack.company.issuer);
    }
  });

  test.each<[string, Record<string, string>]>([
    ["a nonce without openid", { nonce: "n" }],
    [
      "acr_values, claims_locales and an id_token_hint",
      { acr_values: "1", claims_locales: "en", id_token_hint: "x" },
    ],
    ["prompt=select_account", { prompt: "select_account" }],
    ["prompt=create consent", { prompt: "create consent" }],
    ["empty parameters", { scope: "", prompt: "", nonce: "", response_mode: "", display: "" }],
    ["parameters nobody knows", { audience: "x", access_type: "offline" }],
    ["code_challenge_method=s256", { code_challenge_method: "S256", response_mode: "query" }],
  ])("continues with %s", async (_name, changes) => {
    const app = await registeredApp(stack);
    const tokens = await app.tokens(browser, "alice", changes);
    expect(tokens.access_token).toBeTruthy();
  });

  test("every response mode in the metadata works", async () => {
    const metadata = (await (
      await stack.fetch("https://auth.test/.well-known/oauth-authorization-server")
    ).json()) as { response_modes_supported: string[] };
    const app = await registeredApp(stack);
    for (const response_mode of metadata.response_modes_supported) {
      const tokens = await app.tokens(browser, "alice", { response_mode });
      expect(tokens.access_token).toBeTruthy();
    }
    const page = await stack.browser().open(app.request({ response_mode: "form_post" }).url);
    expect(page.html).not.toContain('name="code"');
    expect(page.html).toContain("response_mode");
  });
});

function nulls(): Record<string, unknown> {
  return Object.fromEntries(optional.map((name) => [name, null]));
}

function empties(): Record<string, unknown> {
  return Object.fromEntries(optional.map((name) => [name, lists.includes(name) ? [] : ""]));
}

const lists = ["contacts", "grant_types", "response_types", "default_acr_values", "response_modes"];
const optional = [
  ...lists,
  "client_name",
  "client_uri",
  "logo_uri",
  "tos_uri",
  "policy_uri",
  "jwks",
  "jwks_uri",
  "scope",
  "software_id",
  "software_version",
  "software_statement",
  "application_type",
  "initiate_login_uri",
  "sector_identifier_uri",
  "subject_type",
  "id_token_signed_response_alg",
  "token_endpoint_auth_signing_alg",
  "default_max_age",
  "require_auth_time",
  "client_id_issued_at",
];
