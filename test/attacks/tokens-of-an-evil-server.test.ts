import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createMetadataCache } from "../../src/upstream-oauth/metadata-cache.ts";
import type { TokenCaller } from "../../src/upstream-tokens/upstream-tokens.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type OAuthClientStack, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

const caller: TokenCaller = { userId: alice, kind: "person" };

/** An upstream's authorization server controls a header of every call, and data in memory for each connection. */
describe("tokens of a malicious authorization server", () => {
  let evil: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeAll(async () => {
    evil = await scriptedUpstream();
    stack = await startOAuthClient(
      `  - {id: files, from: https://mcp.test, to: ${evil.mcp}, mcp: {server: {}}}`,
    );
  });
  afterAll(() => Promise.all([stack?.close(), evil.close()]));
  beforeEach(async () => {
    for (const name of Object.keys(evil.tokenFields)) delete evil.tokenFields[name];
    await stack.upstreamTokens.disconnect(alice, stack.route());
  });
  const find = () => stack.upstreamTokens.find(caller, stack.route());

  it.each([
    ["ends its header and starts another", { access_token: "a\r\nx-pomerium-user: root" }],
    ["starts another request", { access_token: "a\r\n\r\nGET /admin HTTP/1.1\r\nhost: neighbour" }],
    ["contains a NUL", { access_token: "a\u0000b" }],
    ["is not ASCII", { access_token: "tökén" }],
    ["would fill memory", { access_token: "a".repeat(900_000) }],
    ["has a refresh token that would fill memory", { refresh_token: "a".repeat(900_000) }],
    ["comes in a very long response", { padding: "x".repeat(200_000) }],
    ["has a type that is a JavaScript object member", { token_type: "constructor" }],
    ["has the type __proto__", { token_type: "__proto__" }],
  ])("a token that %s is rejected", async (_what, fields) => {
    Object.assign(evil.tokenFields, fields);
    await expect(stack.connect(evil.agree)).rejects.toThrow(/returned no usable token/);
    expect(await find()).toMatchObject({ kind: "missing" });
  });

  it("a very long metadata document is not read", async () => {
    const cache = createMetadataCache({ entries: 10 });
    const deep = `{"issuer":"x","deep":${"[".repeat(100_000)}${"]".repeat(100_000)}}`;
    const document = await cache.get("files", `${evil.url}/deep`, async () => new Response(deep));
    expect(document).toMatchObject({ status: 200, json: undefined });
  });

  it("such a token from a refresh is rejected", async () => {
    await stack.connect(evil.agree);
    evil.tokenFields.access_token = "a\r\nx-pomerium-user: root";
    const later = await stack.upstreamTokens.find(caller, stack.route(), Date.now() + 3_601_000);
    expect(later).toMatchObject({ kind: "unavailable", reason: "token_invalid" });
  });

  it("of ten thousand scopes, five hundred are stored, also after a refresh: every check may have to search them", async () => {
    evil.tokenFields.scope = Array.from({ length: 10_000 }, (_, index) => `s${index}`).join(" ");
    await stack.connect(evil.agree);
    const key = { userId: alice, routeId: "files", upstream: evil.mcp };
    const token = await stack.store.upstreamTokens.find(key);
    expect(token?.scopes.length).toBe(500);
    const outcome = token && (await stack.upstreamOAuth.refresh(token, stack.route()));
    expect(outcome?.kind === "refreshed" && outcome.token.scopes.length).toBe(500);
  });
});

/** All people of a route share one registration: no one may end it for the others. */
describe("a person submits a forged code, and the server rejects it without a reason", () => {
  const bob = "company/bob";
  let server: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeEach(async () => {
    server = await scriptedUpstream();
    stack = await startOAuthClient(
      `  - {id: files, from: https://mcp.test, to: ${server.mcp}, mcp: {server: {}}}`,
    );
    await stack.connect(server.agree, bob);
  });
  afterEach(() => Promise.all([stack.close(), server.close()]));

  const bobIsConnected = async (registrations = 1) => {
    const later = Date.now() + 3_601_000;
    expect(
      await stack.upstreamTokens.find({ userId: bob, kind: "person" }, stack.route(), later),
    ).toMatchObject({
      kind: "credential",
    });
    expect(server.registered.length).toBe(registrations);
  };
  const registeredLongAgo = async () => {
    const [row] = await stack.query("select issuer, redirect_uri, client_id from client_registration");
    const [issuer, redirectUri, clientId] = [row?.issuer, row?.redirect_uri, row?.client_id].map(String);
    await stack.store.clientRegistrations.update(issuer ?? "", redirectUri ?? "", clientId ?? "", (one) => ({
      ...one,
      metadata: { ...one.metadata, registeredAt: 0 },
    }));
  };

  it.each([
    ["nothing", ""],
    ["HTTP's name for it", { error: "Unauthorized" }],
    ["a message", { message: "bad code" }],
  ])("in 401 and %s: the others stay connected", async (_what, body) => {
    const begun = await stack.upstreamOAuth.begin({
      userId: alice,
      route: stack.route(),
      returnTo: "https://mcp.test/done",
    });
    if (!begun.ok) throw new Error(begun.message);
    server.tokenAnswers.push({ status: 401, body }, { status: 401, body });
    const finished = await stack.upstreamOAuth.finish({
      params: server.agree(begun.location, { code: "made-up" }),
      callback: new URL(begun.location).searchParams.get("redirect_uri") ?? "",
      host: "mcp.test",
      userId: alice,
      browserState: begun.state,
    });
    expect(finished).toMatchObject({ ok: false, code: "client_rejected" });
    await bobIsConnected();
  });

  it("with 401 and nothing: a code for an old registration does not disconnect them, either", async () => {
    await registeredLongAgo();
    server.tokenAnswers.push({ status: 401, body: "" }, { status: 401, body: "" });
    await stack.connect(server.agree);
    await bobIsConnected();
  });

  it("with an unknown-client error: it is accepted once, because a newly registered client fails the same way", async () => {
    server.on("/token", ({ form }) =>
      form.get("code") === "0"
        ? { status: 400, body: { error: "invalid_client" } }
        : { body: { access_token: "a", token_type: "Bearer", expires_in: 3600, refresh_token: "r" } },
    );
    await registeredLongAgo();
    await stack.connect(server.agree);
    await stack.connect(server.agree, bob);
    await registeredLongAgo();
    await stack.connect(server.agree);
    await bobIsConnected(2);
  });

  it("with required scopes and a forged rejection of them: the gateway registers again at most once a day", async () => {
    const key = { userId: alice, routeId: "files", upstream: server.mcp };
    const forged = (location: string) => {
      const state = new URL(location).searchParams.get("state") ?? "";
      return new URLSearchParams({ state, iss: server.url, error: "invalid_scope" });
    };
    const forge = async (scope: string) => {
      await stack.store.upstreamTokens.requireScopes(key, { scopes: [scope], requiredAt: new Date() });
      await expect(stack.connect(forged)).rejects.toThrow("authorization page answered with an error");
    };
    await forge("file:1");
    await stack.connect(server.agree, bob);
    await forge("file:2");
    await forge("file:3");
    await bobIsConnected(2);
  });
});

describe("an authorization server that returns secrets in its errors", () => {
  let server: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeEach(async () => {
    server = await scriptedUpstream();
    stack = await startOAuthClient(
      `  - {id: files, from: https://mcp.test, to: ${server.mcp}, mcp: {server: {}}}`,
    );
  });
  afterEach(() => Promise.all([stack.close(), server.close()]));
  const connect = () => expect(stack.connect(server.agree)).rejects.toThrow();
  const logged = () => stack.log.join("\n");

  it.each<[string, unknown]>([
    [
      "a response inside a text",
      {
        error: "invalid_grant",
        error_description: `${JSON.stringify({ access_token: "precious-1" })} {'refresh_token': 'precious-2'}`,
        hint: "{'client_secret': 'precious-3'}",
      },
    ],
    [
      "a token next to an error",
      { error: "partial", access_token: "precious-1", refresh_token: "precious-2" },
    ],
    ["a token in a response that is not ok", { ok: false, authed_user: { access_token: "precious-3" } }],
    ["a form", "error=no&access_token=precious-4&scope=a"],
    ["a line of its own log", `error: {"id_token" : "precious-5\\"more-precious"`],
  ])("%s: not in the gateway's log", async (_what, body) => {
    server.tokenAnswers.push({ status: typeof body === "string" ? 400 : 200, body });
    await connect();
    expect(logged()).not.toContain("precious");
    expect(logged()).toContain("[redacted]");
  });

  it("the gateway's client secret as sent: not in the gateway's log", async () => {
    server.metadata.token_endpoint_auth_methods_supported = ["client_secret_post"];
    server.on("/token", ({ body, headers }) => ({
      status: 400,
      body: `you sent ${body} ${headers.authorization}`,
    }));
    await connect();
    expect(logged()).toContain("you sent");
    expect(logged()).not.toContain("registered-secret");
    server.metadata.token_endpoint_auth_methods_supported = ["client_secret_basic"];
    stack.log.length = 0;
    await stack.replica();
    await connect();
    expect(logged()).not.toMatch(/Basic [A-Za-z0-9+/]{8}/);
  });

  it("the client it has registered, and the registration access token: not in the gateway's log", async () => {
    server.on("/register", {
      status: 400,
      body: { error: "invalid_scope", client_secret: "precious-6", registration_access_token: "precious-7" },
    });
    await connect();
    expect(logged()).toContain("invalid_scope");
    expect(logged()).not.toContain("precious");
    const end = Math.floor(Date.now() / 1000) + 30;
    server.on("/register", {
      status: 201,
      body: {
        client_id: "kept",
        client_secret: "s",
        client_secret_expires_at: end,
        registration_client_uri: `${server.url}/register/kept`,
        registration_access_token: "precious-8",
      },
    });
    server.clients.add("kept");
    server.on("/register/kept", ({ headers }) => ({
      status: 400,
      body: `you sent ${headers.authorization}`,
    }));
    await stack.connect(server.agree);
    await stack.upstreamTokens.find(caller, stack.route(), Date.now() + 3_601_000);
    await expect.poll(logged).toContain("you sent");
    expect(logged()).not.toContain("precious");
  });
});
