import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import type { Store } from "../../src/store/store.ts";
import type { NewUpstreamToken, UpstreamToken } from "../../src/store/upstream-tokens.ts";
import type { TokenCaller } from "../../src/upstream-tokens/upstream-tokens.ts";
import { scraped } from "../support/scraped.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type OAuthClientStack, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

const caller: TokenCaller = { userId: alice, kind: "person" };
const hour = 3_600_000;

/** Responses of public servers' token endpoints that deviate from RFC 6749. */
describe("a token endpoint's response", () => {
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeAll(async () => {
    upstream = await scriptedUpstream();
    stack = await startOAuthClient(
      `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {}}}`,
    );
  });
  afterAll(() => Promise.all([stack?.close(), upstream?.close()]));
  beforeEach(async () => {
    for (const name of Object.keys(upstream.tokenFields)) delete upstream.tokenFields[name];
    upstream.tokenAnswers.length = 0;
    await stack.upstreamTokens.disconnect(alice, stack.route());
  });
  const stored = () =>
    stack.store.upstreamTokens.find({ userId: alice, routeId: "files", upstream: upstream.mcp });
  const find = (now?: number) => stack.upstreamTokens.find(caller, stack.route(), now);
  const plain = { access_token: "the-token", token_type: "Bearer" };
  const form = { "content-type": "application/x-www-form-urlencoded; charset=utf-8" };
  const lives = (token: UpstreamToken | undefined) =>
    token?.expiresAt && Math.round((token.expiresAt.getTime() - Date.now()) / 60_000);

  it.each<[string, Record<string, unknown>, Partial<UpstreamToken>]>([
    ["no refresh token: null", { refresh_token: null }, { refreshToken: undefined }],
    ["an empty refresh token", { refresh_token: "" }, { refreshToken: undefined }],
    ["a refresh token that is false", { refresh_token: false }, { refreshToken: undefined }],
    ["no scope: null", { scope: null }, { scopes: ["read", "write"] }],
    ["an empty scope", { scope: "" }, { scopes: ["read", "write"] }],
    ["a list of scopes", { scope: ["read", "admin"] }, { scopes: ["read", "admin"] }],
    ["an empty list of scopes", { scope: [] }, { scopes: ["read", "write"] }],
    ["a list of one text with all scopes", { scope: ["read admin"] }, { scopes: ["read", "admin"] }],
    ["scopes with commas", { scope: "read,admin" }, { scopes: ["read", "admin"] }],
    ["a scope that is an object", { scope: { read: true } }, { scopes: ["read", "write"] }],
    ["no token type: missing", { token_type: undefined }, { tokenType: "Bearer" }],
    ["no token type: null", { token_type: null }, { tokenType: "Bearer" }],
    ["an empty token type", { token_type: "" }, { tokenType: "Bearer" }],
    ["a token type in capitals", { token_type: "BEARER" }, { tokenType: "Bearer" }],
    ["Slack's token type", { token_type: "user" }, { tokenType: "Bearer" }],
    ["Apigee's token type", { token_type: "BearerToken" }, { tokenType: "Bearer" }],
    ["a list of one token type", { token_type: ["bearer"] }, { tokenType: "Bearer" }],
    ["an ID token that is null", { id_token: null }, { accessToken: expect.any(String) }],
    ["an error that is null", { error: null }, { accessToken: expect.any(String) }],
    ["an empty error", { error: "", error_description: "" }, { accessToken: expect.any(String) }],
    ["an issued token type that is null", { issued_token_type: null }, { accessToken: expect.any(String) }],
  ])("with %s is accepted", async (_what, fields, expected) => {
    Object.assign(upstream.tokenFields, fields);
    await stack.connect(upstream.agree);
    expect({ refreshToken: undefined, ...(await stored()) }).toMatchObject(expected);
    expect(await find()).toMatchObject({ kind: "credential" });
  });

  it.each<[string, Record<string, unknown>, number | undefined]>([
    ["null", { expires_in: null }, undefined],
    ["empty", { expires_in: "" }, undefined],
    ["text", { expires_in: "3600" }, 60],
    ["text with a fraction", { expires_in: "3600.0" }, 60],
    ["a fraction", { expires_in: 3599.5 }, 60],
    ["zero, which means never", { expires_in: 0 }, undefined],
    ["zero as text", { expires_in: "0" }, undefined],
    ["a time, not a lifetime", { expires_in: null, expires_at: Math.floor(Date.now() / 1000) + 7200 }, 120],
    [
      "a time as ISO 8601",
      { expires_in: undefined, expires_at: new Date(Date.now() + 2 * hour).toISOString() },
      120,
    ],
    ["a time in ms", { expires_in: undefined, expires_at: String(Date.now() + 2 * hour) }, 120],
    ["called expires", { expires_in: undefined, expires: 7200 }, 120],
    [
      "a time that Entra ID calls expires_on",
      { expires_in: undefined, expires_on: String(Math.floor(Date.now() / 1000) + 7200) },
      120,
    ],
  ])("whose lifetime is %s is accepted", async (_what, fields, minutes) => {
    Object.assign(upstream.tokenFields, fields);
    await stack.connect(upstream.agree);
    const now = lives(await stored());
    if (minutes === undefined) expect(now).toBeUndefined();
    else expect(Math.abs((now ?? 0) - minutes)).toBeLessThanOrEqual(1);
    expect(await find()).toMatchObject({ kind: "credential" });
  });

  it.each<[string, Record<string, unknown>, number | undefined]>([
    ["in seconds", { refresh_token_expires_in: "7200" }, 120],
    ["null", { refresh_token_expires_in: null }, undefined],
    ["zero, which means never", { refresh_expires_in: 0 }, undefined],
    ["by Intuit's name", { x_refresh_token_expires_in: 7200 }, 120],
    ["as a time", { refresh_token_expires_at: new Date(Date.now() + 2 * hour).toISOString() }, 120],
  ])("whose refresh token's lifetime is %s is accepted", async (_what, fields, minutes) => {
    Object.assign(upstream.tokenFields, fields);
    await stack.connect(upstream.agree);
    const at = (await stored())?.refreshExpiresAt;
    const left = at && Math.round((at.getTime() - Date.now()) / 60_000);
    if (minutes === undefined) expect(left).toBeUndefined();
    else expect(Math.abs((left ?? 0) - minutes)).toBeLessThanOrEqual(1);
  });

  it.each<[string, { status?: number; body: unknown; headers?: Record<string, string> }]>([
    ["with status 201", { status: 201, body: plain }],
    ["with status 202", { status: 202, body: plain }],
    ["as text/html", { body: JSON.stringify(plain), headers: { "content-type": "text/html" } }],
    ["without a content type", { body: JSON.stringify(plain) }],
    ["after a byte order mark", { body: `\ufeff${JSON.stringify(plain)}` }],
    ["after line breaks", { body: `\r\n\r\n${JSON.stringify(plain)}\n` }],
    ["as a form", { body: "access_token=the-token&scope=read&token_type=bearer", headers: form }],
    ["as a form that says text/plain", { body: "access_token=the-token&expires=3600" }],
    [
      "as a form with empty members",
      { body: "access_token=the-token&expires_in=&refresh_token=&scope=&token_type=", headers: form },
    ],
    [
      "below authed_user, as Slack does",
      {
        body: {
          ok: true,
          app_id: "A1",
          authed_user: { id: "U1", scope: "read", access_token: "the-token", token_type: "user" },
          team: { id: "T1" },
          enterprise: null,
        },
      },
    ],
    [
      "below authed_user, beside the token of a bot",
      {
        body: {
          ok: true,
          access_token: "the-bots-token",
          token_type: "bot",
          authed_user: { id: "U1", scope: "read", access_token: "the-token", token_type: "user" },
        },
      },
    ],
    ["below data", { body: { code: 0, msg: "success", data: { ...plain, expires_in: 3600 } } }],
  ])("%s is accepted", async (_what, answer) => {
    upstream.tokenAnswers.push({ ...answer });
    await stack.connect(upstream.agree);
    expect(await stored()).toMatchObject({ accessToken: "the-token", tokenType: "Bearer" });
  });

  it("to a refresh with null for unchanged members keeps refresh token and scopes", async () => {
    upstream.tokenFields.scope = "read";
    await stack.connect(upstream.agree);
    const before = await stored();
    upstream.tokenAnswers.push({
      status: 201,
      body: { access_token: "newer", token_type: null, refresh_token: null, scope: null, expires_in: null },
    });
    expect(await find(Date.now() + hour + 1000)).toMatchObject({
      headers: [["authorization", "Bearer newer"]],
    });
    expect(await stored()).toMatchObject({
      refreshToken: before?.refreshToken,
      scopes: ["read"],
      accessToken: "newer",
    });
  });

  it.each<[string, { status?: number; body: unknown; headers?: Record<string, string> }, string]>([
    ["an error in a 200", { body: { error: "bad_verification_code" } }, "token_request_rejected"],
    [
      "an error in a form",
      { body: "error=bad_verification_code&error_uri=x", headers: form },
      "token_request_rejected",
    ],
    ["Slack's ok: false", { body: { ok: false, error: "invalid_code" } }, "token_request_rejected"],
    ["ok: false without a reason", { body: { ok: false } }, "token_invalid"],
    [
      "an error as an object",
      { status: 400, body: { error: { code: "invalid_grant" } } },
      "token_request_rejected",
    ],
    ["an error in capitals", { status: 400, body: { error: "INVALID_GRANT" } }, "token_request_rejected"],
    ["Slack's rate limit", { body: { ok: false, error: "ratelimited" } }, "rate_limited"],
    ["Slack's own trouble", { body: { ok: false, error: "fatal_error" } }, "server_error"],
    ["no token", { body: { scope: "read" } }, "token_invalid"],
    ["an empty token", { body: { ...plain, access_token: "" } }, "token_invalid"],
    ["two tokens in a form", { body: "access_token=a&access_token=b", headers: form }, "token_invalid"],
    ["a proof that nobody asked for", { body: { ...plain, token_type: "mac" } }, "token_invalid"],
    ["a page", { body: "<html>access_token=the-token</html>" }, "token_invalid"],
  ])("with %s is invalid: %s", async (_what, answer, code) => {
    upstream.tokenAnswers.push({ ...answer });
    await expect(stack.connect(upstream.agree)).rejects.toThrow();
    expect(stack.log.at(-1)).toContain(`"reason":"${code}"`);
    expect(await stored()).toBeUndefined();
  });
});

/** Responses of registration endpoints, and how the registered clients authenticate. */
describe("a registration", () => {
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  const routes = (server = "{}") =>
    `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: ${server}}}`;
  beforeEach(async () => {
    upstream = await scriptedUpstream();
    stack = await startOAuthClient(routes());
  });
  afterEach(() => Promise.all([stack.close(), upstream.close()]));
  const find = (now?: number) => stack.upstreamTokens.find(caller, stack.route(), now);
  const registration = async () => {
    const [row] = await stack.query("select issuer, redirect_uri from client_registration");
    return stack.store.clientRegistrations.find(String(row?.issuer), String(row?.redirect_uri));
  };
  /** Responds to registrations with these members. */
  function answers(fields: Record<string, unknown>, status = 201) {
    upstream.on("/register", ({ body }) => {
      const clientId = String(fields.client_id ?? "registered");
      upstream.registered.push({ clientId, body: JSON.parse(body) });
      upstream.clients.add(clientId);
      return { status, body: { client_id: clientId, ...fields } };
    });
  }
  /** How the client authenticated in each token request. */
  const proofs = () =>
    upstream.seen
      .filter(({ path }) => path === "/token")
      .map(({ headers, form }) =>
        headers.authorization
          ? form.has("client_id")
            ? "both"
            : "basic"
          : form.has("client_secret")
            ? "post"
            : "none",
      );
  /** A token endpoint that accepts only this method. */
  function takes(
    proof: "basic" | "post",
    refusal = { status: 401, body: { error: "invalid_client" } as unknown },
  ) {
    upstream.on("/token", ({ headers, form }) => {
      const given = headers.authorization ? "basic" : form.has("client_secret") ? "post" : "none";
      if (given !== proof) return refusal;
      return { body: { access_token: "the-token", expires_in: 60, refresh_token: "again" } };
    });
  }

  it.each<[string, Record<string, unknown>, number, string]>([
    ["a secret that is null", { client_secret: null }, 201, "none"],
    ["an empty secret", { client_secret: "" }, 201, "none"],
    ["status 200", { client_secret: "s", client_secret_expires_at: 0 }, 200, "basic"],
    ["status 202", { client_secret: "s", client_secret_expires_at: 0 }, 202, "basic"],
    ["a secret's end that is null", { client_secret: "s", client_secret_expires_at: null }, 201, "basic"],
    ['a secret\'s end that is "0"', { client_secret: "s", client_secret_expires_at: "0" }, 201, "basic"],
    ["an empty secret's end", { client_secret: "s", client_secret_expires_at: "" }, 201, "basic"],
    ["a secret's end as text", { client_secret: "s", client_secret_expires_at: "4102444800" }, 201, "basic"],
    ["a method that is null", { client_secret: "s", token_endpoint_auth_method: null }, 201, "basic"],
    ["an empty method", { client_secret: "s", token_endpoint_auth_method: "" }, 201, "basic"],
    ["another method", { client_secret: "s", token_endpoint_auth_method: "client_secret_post" }, 201, "post"],
    [
      "lists and nulls in place of text",
      { scope: ["a"], grant_types: null, response_types: "", contacts: null, client_uri: null },
      201,
      "none",
    ],
    ["redirect URIs left out", { client_secret: "s", redirect_uris: null }, 201, "basic"],
    ["a number for an id", { client_id: 4711, client_secret: "s" }, 201, "basic"],
  ])("with %s is accepted", async (_what, fields, status, proof) => {
    answers(fields, status);
    await stack.connect(upstream.agree);
    expect(proofs()).toEqual([proof]);
    expect(await find()).toMatchObject({ kind: "credential" });
  });

  it.each<[string, Record<string, unknown>, number]>([
    ["an error in a 200", { client_id: undefined, error: "invalid_client_metadata" }, 200],
    ["other redirect URIs", { redirect_uris: ["https://evil.test/callback"] }, 201],
    ["another redirect URI as text", { redirect_uris: "https://evil.test/callback" }, 201],
    ["ours and another", { redirect_uris: ["https://mcp.test/x", "https://evil.test"] }, 201],
  ])("with %s is invalid", async (_what, fields, status) => {
    answers(fields, status);
    await expect(stack.connect(upstream.agree)).rejects.toThrow(/regist/);
    expect(stack.log.at(-1)).toContain('"reason":"registration_rejected"');
  });

  it("a client that got an unrequested secret uses it, whatever is null: never without authentication", async () => {
    upstream.metadata.token_endpoint_auth_methods_supported = ["none"];
    answers({ client_secret: "s", token_endpoint_auth_method: null });
    await stack.connect(upstream.agree);
    expect(proofs()).toEqual(["basic"]);
  });

  it("names the scopes that will be requested; a server that registers no scopes gets a request without them", async () => {
    upstream.metadata.scopes_supported = ["read", "offline_access"];
    const begun = await stack.upstreamOAuth.begin({
      userId: alice,
      route: stack.route(),
      returnTo: "https://mcp.test/",
    });
    const asked = begun.ok ? new URL(begun.location).searchParams.get("scope") : "";
    expect(asked?.split(" ").sort()).toEqual(["offline_access", "read", "write"]);
    expect(upstream.registered[0]?.body.scope).toBe(asked);
    await stack.query("delete from client_registration");
    const bodies: Record<string, unknown>[] = [];
    upstream.on("/register", ({ body }) => {
      const given: Record<string, unknown> = JSON.parse(body);
      bodies.push(given);
      upstream.clients.add("without");
      return given.scope === undefined
        ? { status: 201, body: { client_id: "without" } }
        : { status: 400, body: { error: "invalid_client_metadata" } };
    });
    await stack.connect(upstream.agree);
    expect(bodies.map(({ scope }) => scope)).toEqual([expect.any(String), undefined]);
  });

  it("has the scopes that calls may require later, if the server lists them", async () => {
    upstream.metadata.scopes_supported = ["read", "write", "delete"];
    const begun = await stack.upstreamOAuth.begin({
      userId: alice,
      route: stack.route(),
      returnTo: "https://mcp.test/",
    });
    expect(begun.ok && new URL(begun.location).searchParams.get("scope")).toBe("read write");
    expect(upstream.registered[0]?.body.scope).toBe("read write delete");
  });

  it("with fewer scopes than are requested now is replaced once if the server rejects them, and the flow continues", async () => {
    const granted = new Map<string, unknown>();
    let knows = (_scope: string) => true;
    upstream.on("/register", ({ body }) => {
      const { scope }: { scope?: string } = JSON.parse(body);
      if (scope !== undefined && !knows(scope)) return { status: 400, body: { error: "invalid_scope" } };
      const clientId = `client-${upstream.clients.size}`;
      upstream.clients.add(clientId);
      granted.set(clientId, scope);
      return { status: 201, body: { client_id: clientId } };
    });
    /** A client gets only the scopes that it has registered. */
    const agree = (location: string) => {
      const asked = new URL(location).searchParams;
      const has = String(granted.get(asked.get("client_id") ?? "")).split(" ");
      const fits = asked
        .get("scope")
        ?.split(" ")
        .every((scope) => has.includes(scope));
      const refusal = { state: asked.get("state") ?? "", iss: upstream.url, error: "invalid_scope" };
      return fits ? upstream.agree(location) : new URLSearchParams(refusal);
    };
    await stack.connect(agree);
    await stack.reconfigure(routes("{upstream_oauth2: {scopes: [read, admin]}}"));
    const userId = "company/bob";
    const late = await stack.upstreamOAuth.begin({
      userId,
      route: stack.route(),
      returnTo: "https://mcp.test/",
    });
    await stack.connect(agree);
    expect([...granted.values()]).toEqual(["read write", "read write admin"]);
    // A second user, rejected for the same registration, continues with the new one.
    const end = (flow: { location: string; state: string }) =>
      stack.upstreamOAuth.finish({
        params: agree(flow.location),
        callback: new URL(flow.location).searchParams.get("redirect_uri") ?? "",
        host: "mcp.test",
        userId,
        browserState: flow.state,
      });
    if (!late.ok) throw new Error();
    const refused = await end(late);
    if (!refused.ok || !refused.again) throw new Error(JSON.stringify(refused));
    expect(await end(refused.again)).toMatchObject({ ok: true });
    expect(granted.size).toBe(2);
    // A scope that the server does not register does not cause repeated replacements.
    knows = (scope) => !scope.includes("forbidden");
    await stack.reconfigure(routes("{upstream_oauth2: {scopes: [read, forbidden]}}"));
    await expect(stack.connect(agree)).rejects.toThrow("authorization page answered with an error");
    const clients = granted.size;
    await expect(stack.connect(agree)).rejects.toThrow("authorization page answered with an error");
    expect(granted.size).toBe(clients);
    // Nor does a forged rejection.
    await stack.reconfigure(routes());
    const forged = (location: string) => {
      const state = new URL(location).searchParams.get("state") ?? "";
      return new URLSearchParams({ state, iss: upstream.url, error: "invalid_scope" });
    };
    await expect(stack.connect(forged)).rejects.toThrow("authorization page answered with an error");
    expect(granted.size).toBe(clients);
  });

  it("that lacks scopes is kept if the server creates no other: connected users are not affected, and the next attempt replaces it", async () => {
    const scopes = new Map<string, string>();
    let answer: { status: number; body: unknown } | undefined;
    upstream.on("/register", ({ body }) => {
      if (answer) return answer;
      const clientId = `client-${upstream.clients.size}`;
      upstream.clients.add(clientId);
      scopes.set(clientId, JSON.parse(body).scope);
      return { status: 201, body: { client_id: clientId } };
    });
    const agree = (location: string) => {
      const asked = new URL(location).searchParams;
      const has = scopes.get(asked.get("client_id") ?? "")?.split(" ") ?? [];
      const fits = (asked.get("scope") ?? "").split(" ").every((scope) => has.includes(scope));
      const refusal = { state: asked.get("state") ?? "", iss: upstream.url, error: "invalid_scope" };
      return fits ? upstream.agree(location) : new URLSearchParams(refusal);
    };
    const bob = "company/bob";
    await stack.connect(agree, bob);
    const old = await registration();
    const demand = { scopes: ["admin"], requiredAt: new Date() };
    await stack.store.upstreamTokens.requireScopes(
      { userId: alice, routeId: "files", upstream: upstream.mcp },
      demand,
    );
    for (answer of [
      { status: 503, body: "down" },
      { status: 429, body: "" },
      { status: 403, body: { error: "access_denied" } },
      { status: 201, body: { client_id: 7.5 } },
    ]) {
      await expect(stack.connect(agree)).rejects.toThrow();
      expect(await registration(), JSON.stringify(answer)).toEqual(old);
    }
    const now = Date.now() + hour;
    const refreshed = await stack.upstreamTokens.find({ userId: bob, kind: "person" }, stack.route(), now);
    expect(refreshed).toMatchObject({ kind: "credential" });
    answer = undefined;
    // Failed attempts do not count for the limit of one a day.
    await stack.connect(agree);
    expect([...scopes.values()]).toEqual(["read write", "read write admin"]);
    expect((await registration())?.clientId).toBe("client-1");
  });

  it("that a server rejects is kept if the server creates no other, too", async () => {
    await stack.connect(upstream.agree);
    const old = await registration();
    if (!old) throw new Error("nothing stored");
    const age = (metadata: object, more: object = {}) =>
      stack.store.clientRegistrations.update(old.issuer, old.redirectUri, old.clientId, (one) => ({
        ...one,
        ...more,
        metadata: { ...one.metadata, ...metadata },
      }));
    upstream.clients.clear();
    upstream.on("/register", { status: 503, body: "down" });
    await age({ registeredAt: 0 });
    await expect(stack.connect(upstream.agree)).rejects.toThrow("failed (503)");
    expect((await registration())?.clientId).toBe(old.clientId);
    // Rejected when the user returns.
    await age({ registeredAt: Date.now() });
    await expect(stack.connect(upstream.agree)).rejects.toThrow("failed (503)");
    expect((await registration())?.clientId).toBe(old.clientId);
    // About to expire.
    upstream.clients.add(old.clientId);
    await age({}, { secretExpiresAt: new Date(Date.now() + 30_000) });
    await expect(stack.connect(upstream.agree)).rejects.toThrow("failed (503)");
    expect((await registration())?.clientId).toBe(old.clientId);
  });

  it("that is rejected with a real code is tested, even if the token endpoint rejects the client for any unknown code", async () => {
    /** Rejects the client of any unknown code. */
    upstream.on("/token", ({ headers, form }) => {
      const basic = Buffer.from(headers.authorization?.slice(6) ?? "", "base64").toString();
      const known = upstream.clients.has(decodeURIComponent(basic.split(":")[0] ?? ""));
      if (form.get("code") === "0" || !known) return { status: 401, body: { error: "invalid_client" } };
      return { body: { access_token: "the-token", expires_in: 3600, refresh_token: "again" } };
    });
    const age = async () => {
      const one = await registration();
      if (!one) throw new Error("nothing stored");
      await stack.store.clientRegistrations.update(one.issuer, one.redirectUri, one.clientId, (now) => ({
        ...now,
        metadata: { ...now.metadata, registeredAt: 0 },
      }));
      return one.clientId;
    };
    await stack.connect(upstream.agree);
    // It seems lost, and so does the next one: from now on, the test counts as inconclusive.
    await age();
    await stack.connect(upstream.agree, "company/bob");
    await age();
    await stack.connect(upstream.agree, "company/carol");
    expect(upstream.registered.length).toBe(2);
    const lost = await age();
    upstream.clients.clear();
    let isDown = true;
    upstream.on("/register", () => {
      if (isDown) return { status: 503, body: "down" };
      upstream.clients.add("another");
      return { status: 201, body: { client_id: "another", client_secret: "s" } };
    });
    await expect(stack.connect(upstream.agree)).rejects.toThrow("failed (503)");
    expect((await registration())?.clientId).toBe(lost);
    const begin = () =>
      stack.upstreamOAuth.begin({ userId: alice, route: stack.route(), returnTo: "https://mcp.test/" });
    // No user is redirected there with it again.
    expect(await begin()).toMatchObject({ ok: false, message: expect.stringContaining("failed (503)") });
    isDown = false;
    await stack.connect(upstream.agree);
    expect(await registration()).toMatchObject({ clientId: "another" });
    // The new one is trusted like the earlier ones.
    await age();
    expect(await begin()).toMatchObject({ ok: true });
    expect(await registration()).toMatchObject({ clientId: "another", metadata: { registeredAt: 0 } });
  });

  it.each([
    [["client_secret_post", "client_secret_basic"], "post"],
    [["client_secret_basic", "client_secret_post"], "basic"],
    ["client_secret_post client_secret_basic none", "post"],
    [null, "basic"],
    [[], "basic"],
  ])("uses the server's order of methods: %j", async (listed, proof) => {
    upstream.metadata.token_endpoint_auth_methods_supported = listed;
    answers({ client_secret: "s" });
    await stack.connect(upstream.agree);
    expect(proofs()).toEqual([proof]);
  });

  it.each<["basic" | "post", string[], { status: number; body: unknown }]>([
    ["post", ["client_secret_basic"], { status: 401, body: { error: "invalid_client" } }],
    ["basic", ["client_secret_post"], { status: 400, body: { error: "invalid_client" } }],
    ["post", ["client_secret_basic"], { status: 401, body: "" }],
    ["post", ["client_secret_basic"], { status: 401, body: { error: "unauthorized_client" } }],
    [
      "post",
      ["client_secret_basic"],
      { status: 400, body: { error: "invalid_request", error_description: "client_id: Field required" } },
    ],
  ])(
    "if rejected, the other secret-based method (%s) is tried once and stored for every replica (%j, %j)",
    async (proof, listed, refusal) => {
      upstream.metadata.token_endpoint_auth_methods_supported = listed;
      takes(proof, refusal);
      answers({ client_secret: "s" });
      await stack.connect(upstream.agree);
      const other = proof === "post" ? "basic" : "post";
      expect(proofs()).toEqual([other, proof]);
      await expect.poll(async () => (await registration())?.authMethod).toBe(`client_secret_${proof}`);
      await find(Date.now() + hour);
      const elsewhere = await stack.replica();
      await elsewhere.upstreamTokens.find(caller, stack.route(), Date.now() + 2 * hour);
      expect(proofs()).toEqual([other, proof, proof, proof]);
    },
  );

  it.each(["none", "private_key_jwt"])(
    "a rejected client that authenticates with %s uses no other method",
    async (method) => {
      upstream.metadata.token_endpoint_auth_methods_supported = [method];
      answers({ client_secret: method === "none" ? null : undefined });
      upstream.on("/token", { status: 401, body: { error: "invalid_client" } });
      await expect(stack.connect(upstream.agree)).rejects.toThrow();
      const asked = upstream.seen.filter(({ path }) => path === "/token");
      // Once for each of the two clients: a rejected one is registered again.
      expect(new Set(proofs())).toEqual(new Set(["none"]));
      expect(asked[0]?.form.has("client_assertion")).toBe(method === "private_key_jwt");
    },
  );

  it("only endpoint.auth_style: everything is discovered, and the method is the operator's", async () => {
    await stack.reconfigure(routes("{upstream_oauth2: {endpoint: {auth_style: params}}}"));
    answers({ client_secret: "s" });
    await stack.connect(upstream.agree);
    expect(upstream.registered[0]?.body.token_endpoint_auth_method).toBe("client_secret_post");
    upstream.clients.add("known");
    await stack.reconfigure(
      routes("{upstream_oauth2: {client_id: known, client_secret: s, endpoint: {auth_style: params}}}"),
    );
    await stack.connect(upstream.agree, "company/bob");
    expect(proofs()).toEqual(["post", "post"]);
    upstream.on("/token", { status: 401, body: { error: "invalid_client" } });
    await expect(stack.connect(upstream.agree, "company/carol")).rejects.toThrow();
    expect(proofs()).toEqual(["post", "post", "post"]);
  });
});

/** RFC 6749 section 5.2 requires `error`; servers, and proxies in front of them, respond differently. */
describe("a refresh that is rejected without a reason", () => {
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeEach(async () => {
    upstream = await scriptedUpstream();
    stack = await startOAuthClient(
      `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {}}}`,
    );
  });
  afterEach(() => Promise.all([stack.close(), upstream.close()]));
  const person = (name: string): TokenCaller => ({ userId: `company/${name}`, kind: "person" });
  const find = (name: string, replica: Pick<OAuthClientStack, "upstreamTokens"> = stack) =>
    replica.upstreamTokens.find(person(name), stack.route());
  const stored = (name: string) =>
    stack.store.upstreamTokens.find({
      userId: `company/${name}`,
      routeId: "files",
      upstream: upstream.mcp,
    });
  async function connectAndExpire(...names: string[]) {
    for (const name of names) {
      await stack.connect(upstream.agree, `company/${name}`);
      const token = await stored(name);
      if (!token) throw new Error("nothing stored");
      const { version: _, connectedAt: __, updatedAt: ___, ...kept } = token;
      const ended = { ...kept, expiresAt: new Date(Date.now() - 1000) };
      await stack.store.upstreamTokens.put(ended, { action: "upstream_token.obtained" });
    }
  }
  /** Failures are cached per replica: each attempt is the first one of a replica. */
  async function tries(times: number, ...names: string[]) {
    for (let time = 0; time < times; time++) {
      const replica = await stack.replica();
      for (const name of names) expect(await find(name, replica)).toMatchObject({ kind: "unavailable" });
    }
  }
  const passTime = (minutes: number) =>
    stack.query(`update upstream_token set refused_since = refused_since - interval '${minutes} minutes'`);

  it.each<[string, { status: number; body: unknown }]>([
    ["400 and a page", { status: 400, body: "<html>Bad Request</html>" }],
    ["404 and a message", { status: 404, body: { message: "no such token" } }],
    ["400 and nothing", { status: 400, body: "" }],
    ["401 and nothing", { status: 401, body: "" }],
    ["403 and a framework's words", { status: 403, body: { statusCode: 403, error: "Forbidden" } }],
    ["410 and a list", { status: 410, body: ["gone"] }],
    ["422 and an error object", { status: 422, body: { error: { code: 17, message: "no" } } }],
  ])(
    "(%s) is repeated for ten minutes, then the user consents again; until then the row is kept",
    async (_what, answer) => {
      await connectAndExpire("alice");
      upstream.on("/token", answer);
      await tries(4, "alice");
      await passTime(11);
      // The fifth attempt, after ten minutes.
      expect(await find("alice")).toMatchObject({ kind: "missing", reason: "rejected_without_reason" });
      const state = await stack.upstreamTokens.connectionState("company/alice", stack.route());
      expect(state).toMatchObject({ state: "missing" });
      expect(await stored("alice")).toMatchObject({ rejections: { count: 5 } });
      const elsewhere = await stack.replica();
      expect(await find("alice", elsewhere)).toMatchObject({ kind: "missing" });
      // A server that recovers in the meantime issues a token.
      upstream.on("/token", { body: { access_token: "back", refresh_token: "r" } });
      const later = await stack.replica();
      expect(await find("alice", later)).toMatchObject({ headers: [["authorization", "Bearer back"]] });
      expect((await stored("alice"))?.rejections).toBeUndefined();
    },
  );

  it("does not count if it is transient, or too soon", async () => {
    await connectAndExpire("alice");
    for (const status of [408, 429, 500, 503]) {
      upstream.on("/token", { status, body: "" });
      await tries(1, "alice");
    }
    expect((await stored("alice"))?.rejections).toBeUndefined();
    upstream.on("/token", { status: 404, body: "" });
    await tries(6, "alice");
    expect(await stored("alice")).toMatchObject({ rejections: { count: 6 } });
  });

  it("does not count while the access token is valid", async () => {
    await stack.connect(upstream.agree, "company/alice");
    upstream.on("/token", { status: 404, body: "" });
    const refused = () => stack.log.filter((line) => line.includes('"step":"refresh"')).length;
    for (let time = 1; time <= 5; time++) {
      const replica = await stack.replica();
      // As if just before its expiry: it is refreshed ahead.
      const soon = Date.now() + hour - 2000;
      expect(await replica.upstreamTokens.find(person("alice"), stack.route(), soon)).toMatchObject({
        kind: "credential",
      });
      await vi.waitFor(() => expect(refused()).toBe(time), { timeout: 60_000 });
    }
    const token = await stored("alice");
    if (!token) throw new Error("nothing stored");
    expect(token.rejections).toBeUndefined();
  });

  it("is attributed to the server if most of its connections fail together: 503, and no user is asked to consent", async () => {
    await connectAndExpire("alice", "bob", "carol");
    upstream.on("/token", { status: 404, body: "<html>" });
    await tries(5, "alice", "bob", "carol");
    await passTime(11);
    for (const name of ["bob", "carol", "alice"]) {
      // The first one is the only one that this replica knows so far.
      const found = await find(name);
      if (name !== "bob") expect(found).toMatchObject({ kind: "unavailable" });
      expect(await stored(name)).toBeDefined();
    }
    expect(stack.log.join()).toContain("rejects most refreshes without a reason");
  });

  it("is attributed to this connection if others at the server are refreshed", async () => {
    await connectAndExpire("alice", "bob", "carol");
    upstream.on("/token", ({ form }) =>
      form.get("refresh_token") === dead ? { status: 404, body: "" } : { body: { access_token: "fine" } },
    );
    const dead = (await stored("alice"))?.refreshToken;
    await tries(4, "alice");
    await passTime(11);
    for (const name of ["bob", "carol"]) expect(await find(name)).toMatchObject({ kind: "credential" });
    expect(await find("alice")).toMatchObject({ kind: "missing" });
  });

  it("and whose access token the upstream also rejects, leads to a consent, and the token is not sent again", async () => {
    await stack.connect(upstream.agree, "company/alice");
    upstream.on("/token", { status: 404, body: "" });
    const reject = async (replica: Pick<OAuthClientStack, "upstreamTokens">) =>
      replica.upstreamTokens.handleRejection({
        userId: "company/alice",
        routeId: "files",
        version: (await stored("alice"))?.version ?? 0,
        status: 401,
        wwwAuthenticate: "Bearer",
      });
    // A token that was just issued is not refreshed again.
    await stack.query(
      "update upstream_token set updated_at = now() - interval '1 hour', connected_at = now() - interval '2 hours'",
    );
    for (let time = 0; time < 4; time++)
      expect(await reject(await stack.replica())).toMatchObject({ kind: "unavailable" });
    await passTime(11);
    expect(await reject(stack)).toMatchObject({ kind: "consent" });
    expect(await find("alice")).toMatchObject({ kind: "missing" });
    expect(await find("alice", await stack.replica())).toMatchObject({ kind: "missing" });
  });
});

/** RFC 7591 section 3.2.1: `client_secret_expires_at`; RFC 7592: how it is rotated. */
describe("a client secret that expires", () => {
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  /** `id:secret` that the server accepts, and the expiry of each new secret: Unix s, 0: never. */
  let good: Set<string>;
  let ends: (number | string)[];
  beforeEach(async () => {
    upstream = await scriptedUpstream();
    stack = await startOAuthClient(
      `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {}}}`,
    );
    good = new Set();
    ends = [];
    upstream.on("/token", ({ headers, form }) => {
      upstream.tokenRequests.push(form);
      const basic = Buffer.from(headers.authorization?.slice(6) ?? "", "base64").toString();
      if (!good.has(basic)) return { status: 401, body: { error: "invalid_client" } };
      return { body: { access_token: `token-of-${basic}`, expires_in: 60, refresh_token: "again" } };
    });
    upstream.on("/register", ({ body }) => {
      const clientId = `client-${upstream.registered.length}`;
      upstream.registered.push({ clientId, body: JSON.parse(body) });
      good.add(`${clientId}:s`);
      return { status: 201, body: { client_id: clientId, client_secret: "s", ...management(clientId) } };
    });
  });
  afterEach(() => Promise.all([stack.close(), upstream.close()]));
  let offered: string | undefined;
  beforeEach(() => {
    offered = undefined;
  });
  const management = (clientId: string) => ({
    client_secret_expires_at: ends.shift() ?? 0,
    ...(offered && {
      registration_client_uri: `${offered}/register/${clientId}`,
      registration_access_token: "rat",
    }),
  });
  const inSeconds = (seconds: number) => Math.floor(Date.now() / 1000) + seconds;
  const find = (now?: number) => stack.upstreamTokens.find(caller, stack.route(), now);
  const registration = async () => {
    const [row] = await stack.query("select issuer, redirect_uri from client_registration");
    const found = await stack.store.clientRegistrations.find(String(row?.issuer), String(row?.redirect_uri));
    if (!found) throw new Error("nothing stored");
    return found;
  };
  const endNow = async () => age({ leftMs: -1000 });
  /** Simulates that this much of the secret's lifetime has passed, and this much is left. */
  const age = async ({ overMs, leftMs }: { overMs?: number; leftMs: number }) => {
    const { issuer, redirectUri, clientId } = await registration();
    await stack.store.clientRegistrations.update(issuer, redirectUri, clientId, (one) => ({
      ...one,
      secretExpiresAt: new Date(Date.now() + leftMs),
      metadata: { ...one.metadata, ...(overMs && { registeredAt: Date.now() - overMs }) },
    }));
  };
  const begin = async () => {
    const begun = await stack.upstreamOAuth.begin({
      userId: alice,
      route: stack.route(),
      returnTo: "https://mcp.test/done",
    });
    if (!begun.ok) throw new Error(begun.message);
    return begun;
  };
  const finish = ({ location, state }: { location: string; state: string }) =>
    stack.upstreamOAuth.finish({
      params: upstream.agree(location),
      callback: new URL(location).searchParams.get("redirect_uri") ?? "",
      host: "mcp.test",
      userId: alice,
      browserState: state,
    });

  it("during a flow: it is tried, a rejected client is registered again, and the flow continues", async () => {
    const begun = await begin();
    await endNow();
    good.clear();
    const finished = await finish(begun);
    const again = finished.ok ? finished.again : undefined;
    if (!again) throw new Error("not sent again");
    const second = await finish(again);
    expect(second.ok && second.again).toBeUndefined();
    expect(await find()).toMatchObject({ headers: [["authorization", "Bearer token-of-client-1:s"]] });
  });

  it("and has already expired when it is registered: the server's clock is behind, and the flow continues", async () => {
    ends = [inSeconds(-3600), inSeconds(-3600), inSeconds(-3600)];
    await stack.connect(upstream.agree);
    expect(upstream.registered.length).toBe(2);
    expect(await find()).toMatchObject({ kind: "credential" });
    // Nor is there a new client for each user who connects.
    await stack.connect(upstream.agree, "company/bob");
    expect(upstream.registered.length).toBe(2);
    expect(await find(Date.now() + hour)).toMatchObject({ kind: "credential" });
  });

  it("and has expired by the server's own clock, as in its response", async () => {
    const behind = 7200;
    upstream.on("/register", () => ({
      status: 201,
      headers: { date: new Date(Date.now() - behind * 1000).toUTCString() },
      body: { client_id: "late", client_secret: "s", client_secret_expires_at: inSeconds(3600 - behind) },
    }));
    good.add("late:s");
    await stack.connect(upstream.agree);
    const [row] = await stack.query("select secret_expires_at from client_registration");
    const left = new Date(String(row?.secret_expires_at)).getTime() - Date.now();
    expect(Math.abs(left - hour)).toBeLessThan(60_000);
  });

  it("is rotated if the server supports that, and connections stay valid", async () => {
    offered = upstream.url;
    ends = [inSeconds(86_400)];
    await stack.connect(upstream.agree);
    const bodies: unknown[] = [];
    upstream.on("/register/client-0", ({ method, headers, body }) => {
      if (headers.authorization !== "Bearer rat") return { status: 401, body: {} };
      if (method !== "PUT") return { status: 405, body: {} };
      bodies.push(JSON.parse(body));
      good.delete("client-0:s");
      good.add("client-0:s2");
      return {
        body: { client_id: "client-0", client_secret: "s2", client_secret_expires_at: inSeconds(86_400) },
      };
    });
    await endNow();
    expect(await find(Date.now() + hour)).toMatchObject({
      headers: [["authorization", "Bearer token-of-client-0:s2"]],
    });
    expect(bodies).toEqual([
      expect.objectContaining({
        client_id: "client-0",
        redirect_uris: upstream.registered[0]?.body.redirect_uris,
      }),
    ]);
    await stack.connect(upstream.agree, "company/bob");
    expect(upstream.registered.length).toBe(1);
  });

  it("is rotated in the last quarter of its lifetime: the next consent uses the new one, and a call does not wait for it", async () => {
    offered = upstream.url;
    ends = [inSeconds(4 * 3600)];
    await stack.connect(upstream.agree);
    let renewals = 0;
    let answered = Promise.resolve();
    upstream.on("/register/client-0", async ({ method }) => {
      if (method !== "PUT") return { status: 405, body: {} };
      const secret = `renewed-${++renewals}`;
      await answered;
      good.add(`client-0:${secret}`);
      const end = inSeconds(4 * 3600);
      return { body: { client_id: "client-0", client_secret: secret, client_secret_expires_at: end } };
    });
    const secret = async () => (await registration()).clientSecret;

    await age({ overMs: 2 * hour, leftMs: 2 * hour });
    await begin();
    expect(await find(Date.now() + hour)).toMatchObject({ kind: "credential" });
    expect([renewals, await secret()]).toEqual([0, "s"]);

    await age({ overMs: 3.5 * hour, leftMs: hour / 2 });
    await begin();
    expect([renewals, await secret()]).toEqual([1, "renewed-1"]);
    // A new lifetime has begun.
    await begin();
    expect(await find(Date.now() + hour)).toMatchObject({
      headers: [["authorization", "Bearer token-of-client-0:renewed-1"]],
    });
    expect(renewals).toBe(1);

    let answer = () => {};
    answered = new Promise((resolve) => {
      answer = resolve;
    });
    await age({ overMs: 3.5 * hour, leftMs: hour / 2 });
    expect(await find(Date.now() + hour)).toMatchObject({
      headers: [["authorization", "Bearer token-of-client-0:renewed-1"]],
    });
    answer();
    await expect.poll(secret, { timeout: 60_000 }).toBe("renewed-2");
    expect([renewals, upstream.registered.length]).toEqual([2, 1]);
  });

  it("is rotated by reading the registration if it cannot be updated", async () => {
    offered = upstream.url;
    ends = [inSeconds(86_400)];
    await stack.connect(upstream.agree);
    upstream.on("/register/client-0", ({ method }) => {
      if (method !== "GET") return { status: 405, body: {} };
      good.add("client-0:s2").delete("client-0:s");
      return { body: { client_id: "client-0", client_secret: "s2", client_secret_expires_at: null } };
    });
    await endNow();
    expect(await find(Date.now() + hour)).toMatchObject({ kind: "credential" });
  });

  it("is rotated only at the server that issued it, and its expiry is logged if it cannot be rotated", async () => {
    const elsewhere = await scriptedUpstream();
    offered = elsewhere.url;
    ends = [inSeconds(86_400)];
    await stack.connect(upstream.agree);
    await endNow();
    await find(Date.now() + hour);
    expect(elsewhere.seen).toEqual([]);
    await elsewhere.close();
    expect(stack.log.find((line) => line.includes("offers no renewal"))).toContain("secretExpiresAt");
    const findings: string[] = [];
    await stack.upstreamOAuth.discover(stack.route(), ({ finding }) => findings.push(finding));
    expect(findings.join()).toMatch(/as client-0, with a secret that expires on 20/);
  });
});

describe("a token that is obtained while the database is unavailable", () => {
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeEach(async () => {
    upstream = await scriptedUpstream();
    upstream.metadata.revocation_endpoint = `${upstream.url}/revoke`;
    stack = await startOAuthClient(
      `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {}}}`,
    );
  });
  afterEach(() => Promise.all([stack.close(), upstream.close()]));
  const away = () => new Error("the database is away");

  it("is stored when the database is back", async () => {
    const put = vi.spyOn(stack.store.upstreamTokens, "put");
    put.mockRejectedValueOnce(away()).mockRejectedValueOnce(away());
    await stack.connect(upstream.agree);
    expect(put).toHaveBeenCalledTimes(3);
    expect(await stack.upstreamTokens.find(caller, stack.route())).toMatchObject({ kind: "credential" });
    expect(upstream.tokenRequests.length).toBe(1);
  });

  function revocations() {
    const revoked: (string | null)[] = [];
    upstream.on("/revoke", ({ form }) => {
      revoked.push(form.get("token"));
      return { status: 204, body: "" };
    });
    return revoked;
  }
  /** The first attempt to store a token fails, and this happens in the meantime, for example on another replica. */
  function meanwhile(
    happens: (put: Store["upstreamTokens"]["put"], token: NewUpstreamToken) => Promise<unknown>,
  ) {
    const { put } = stack.store.upstreamTokens;
    vi.spyOn(stack.store.upstreamTokens, "put").mockImplementationOnce(async (token) => {
      await happens(put, token);
      throw away();
    });
    upstream.tokenFields.access_token = "too-late";
  }
  const tokenOf = async (userId: string) =>
    (await stack.store.upstreamTokens.find({ userId, routeId: "files", upstream: upstream.mcp }))
      ?.accessToken;
  const about = { action: "upstream_token.obtained" } as const;

  it("is revoked, not stored, if the user has connected again in the meantime", async () => {
    const revoked = revocations();
    meanwhile((put, token) => put({ ...token, accessToken: "newer" }, about));
    await expect(stack.connect(upstream.agree)).rejects.toThrow(/connect again/);
    expect(await tokenOf(alice)).toBe("newer");
    expect(revoked).toContain("too-late");
  });

  it("is revoked, not stored, if the user has disconnected in the meantime", async () => {
    await stack.connect(upstream.agree);
    const revoked = revocations();
    meanwhile(() => stack.upstreamTokens.disconnect(alice, stack.route()));
    await expect(stack.connect(upstream.agree)).rejects.toThrow(/connect again/);
    expect(await tokenOf(alice)).toBeUndefined();
    expect(revoked).toContain("too-late");
  });

  it("is revoked, not stored, if the user was removed in the meantime", async () => {
    const at = new Date();
    const person = { userId: alice, providerId: "company", subject: "alice", checkedAt: at };
    await stack.store.signInSessions.put({ ...person, claims: {}, groups: [] });
    const revoked = revocations();
    meanwhile(async () => {
      await stack.store.endAccessOfPerson(alice, { action: "person.rejected" });
      await stack.upstreamTokens.disconnectAll(alice);
    });
    await expect(stack.connect(upstream.agree)).rejects.toThrow(/connect again/);
    expect(await tokenOf(alice)).toBeUndefined();
    expect(revoked).toContain("too-late");
  });

  it("is revoked, not stored, if a user without a connection has disconnected in the meantime", async () => {
    const revoked = revocations();
    meanwhile(() => stack.upstreamTokens.disconnect(alice, stack.route()));
    await expect(stack.connect(upstream.agree)).rejects.toThrow(/connect again/);
    expect(await tokenOf(alice)).toBeUndefined();
    expect(revoked).toContain("too-late");
    await stack.connect(upstream.agree);
    expect(await tokenOf(alice)).toBe("too-late");
  });

  it("is revoked, not stored, if the user has disconnected and connected again in the meantime", async () => {
    await stack.connect(upstream.agree);
    const revoked = revocations();
    meanwhile(async (put, token) => {
      await stack.upstreamTokens.disconnect(alice, stack.route());
      await put({ ...token, accessToken: "newer" }, about);
    });
    await expect(stack.connect(upstream.agree)).rejects.toThrow(/connect again/);
    expect(await tokenOf(alice)).toBe("newer");
    expect(revoked).toContain("too-late");
  });

  describe("or while the user disconnects, with the database available", () => {
    const begin = async () => {
      const returnTo = "https://mcp.test/";
      const begun = await stack.upstreamOAuth.begin({ userId: alice, route: stack.route(), returnTo });
      if (!begun.ok) throw new Error(begun.message);
      return begun;
    };
    const finish = ({ location, state }: { location: string; state: string }, at = upstream) =>
      stack.upstreamOAuth.finish({
        params: at.agree(location),
        callback: new URL(location).searchParams.get("redirect_uri") ?? "",
        host: "mcp.test",
        userId: alice,
        browserState: state,
      });
    const disconnect = () => stack.upstreamTokens.disconnect(alice, stack.route());

    it.each([true, false])(
      "is revoked, not stored, if that happens while the code is redeemed (connected before: %s)",
      async (connected) => {
        if (connected) await stack.connect(upstream.agree);
        const revoked = revocations();
        upstream.tokenFields.access_token = "too-late";
        const begun = await begin();
        upstream.beforeToken = async () => void (await disconnect());
        expect(await finish(begun)).toMatchObject({ ok: false, code: "disconnected_during_authorization" });
        upstream.beforeToken = undefined;
        expect(await tokenOf(alice)).toBeUndefined();
        expect(revoked).toContain("too-late");
        expect(await finish(await begin())).toMatchObject({ ok: true });
      },
    );

    it("is not even requested if the flow started before, on any replica", async () => {
      const elsewhere = await stack.replica();
      const begun = await begin();
      await elsewhere.upstreamTokens.disconnect(alice, stack.route());
      expect(await finish(begun)).toMatchObject({
        ok: false,
        code: "disconnected_during_authorization",
        oauthError: "access_denied",
        retryable: false,
      });
      expect(upstream.tokenRequests).toEqual([]);
      expect(await tokenOf(alice)).toBeUndefined();
      // The route is not recorded as the first at that issuer.
      expect(await stack.query("select * from route_issuer")).toEqual([]);
      // No other user's flow, and none that is started later.
      await stack.connect(upstream.agree, "company/bob");
      expect(await finish(await begin())).toMatchObject({ ok: true });
    });

    it("is not requested, and the user is not redirected again, if the client is gone, too", async () => {
      const begun = await begin();
      await disconnect();
      await stack.query("delete from client_registration");
      expect(await finish(begun)).toMatchObject({ ok: false, code: "disconnected_during_authorization" });
      const registered = await stack.query("select * from client_registration");
      expect(registered).toEqual([]);
    });

    it("is not requested if the user was removed since the flow started, without a connection", async () => {
      const at = new Date();
      const person = { userId: alice, providerId: "company", subject: "alice", checkedAt: at };
      await stack.store.signInSessions.put({ ...person, claims: {}, groups: [] });
      const begun = await begin();
      await stack.store.endAccessOfPerson(alice, { action: "person.rejected" });
      await stack.upstreamTokens.disconnectAll(alice);
      expect(await finish(begun)).toMatchObject({ ok: false, code: "disconnected_during_authorization" });
      expect(upstream.tokenRequests).toEqual([]);
    });

    it("is stored if only another connection of the user to the route has ended", async () => {
      await stack.connect(upstream.agree);
      const moved = await scriptedUpstream();
      await stack.reconfigure(`  - {id: files, from: https://mcp.test, to: ${moved.mcp}, mcp: {server: {}}}`);
      expect(await stack.upstreamTokens.disconnectOrphans()).toBe(0);
      await stack.query("update orphaned_upstream set orphaned_at = orphaned_at - interval '25 hours'");
      const agree = async (end: () => Promise<unknown>) => {
        const begun = await begin();
        await end();
        return finish(begun, moved);
      };
      expect(await agree(() => stack.upstreamTokens.disconnectOrphans())).toMatchObject({ ok: true });
      const key = { userId: alice, routeId: "files" };
      const end = (at: string) => () => stack.upstreamTokens.end({ ...key, upstream: at });
      expect(await agree(end(`${moved.mcp}/other`))).toMatchObject({ ok: true });
      expect(await agree(end(moved.mcp))).toMatchObject({
        ok: false,
        code: "disconnected_during_authorization",
      });
      await moved.close();
    });

    it("of a refresh is revoked, not stored, if the user has connected again by then", async () => {
      await stack.connect(upstream.agree);
      const revoked = revocations();
      const later = Date.now() + hour;
      upstream.beforeToken = async () => {
        upstream.beforeToken = undefined;
        upstream.tokenFields.access_token = "of-the-new-consent";
        await disconnect();
        await stack.connect(upstream.agree);
        upstream.tokenFields.access_token = "too-late";
      };
      expect(await stack.upstreamTokens.find(caller, stack.route(), later)).toMatchObject({
        headers: [["authorization", "Bearer of-the-new-consent"]],
      });
      expect(await tokenOf(alice)).toBe("of-the-new-consent");
      expect(revoked).toContain("too-late");
      expect(revoked).not.toContain("of-the-new-consent");
    });
  });

  it("is neither stored twice nor revoked if only the database's response was lost", async () => {
    const revoked = revocations();
    meanwhile((put, token) => put(token, about));
    await stack.connect(upstream.agree);
    expect(await tokenOf(alice)).toBe("too-late");
    expect(revoked).toEqual([]);
  });

  it("is revoked if the database does not come back", async () => {
    const revoked = revocations();
    const start = performance.now();
    const clock = vi.spyOn(performance, "now");
    vi.spyOn(stack.store.upstreamTokens, "put").mockImplementation(async () => {
      clock.mockReturnValue(start + 11 * 60_000);
      throw away();
    });
    upstream.tokenFields.access_token = "never-stored";
    await expect(stack.connect(upstream.agree))
      .rejects.toThrow()
      .finally(() => clock.mockRestore());
    expect(revoked).toEqual([expect.any(String), "never-stored"]);
  });
});

it.each<[string, { status?: number; body: unknown; headers?: Record<string, string> }[], string]>([
  ["204", [{ status: 204, body: "" }], "ok"],
  ["202 and a page", [{ status: 202, body: "<html>" }], "ok"],
  ["400 for a token that it does not know", [{ status: 400, body: { error: "invalid_token" } }], "ok"],
  [
    "that it revokes no access tokens",
    [{ body: {} }, { status: 400, body: { error: "unsupported_token_type" } }],
    "ok",
  ],
  ["Slack's ok: false", [{ body: { ok: false, error: "not_authed" } }], "token_request_rejected"],
  ["500", [{ status: 500, body: "" }], "server_error"],
])("a revocation endpoint that answers %s is understood", async (_what, answers, outcome) => {
  const upstream = await scriptedUpstream();
  upstream.metadata.revocation_endpoint = `${upstream.url}/revoke`;
  const stack = await startOAuthClient(
    `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {}}}`,
  );
  try {
    await stack.connect(upstream.agree);
    let asked = 0;
    upstream.on("/revoke", () => answers[Math.min(asked++, answers.length - 1)]);
    expect(await stack.upstreamTokens.disconnect(alice, stack.route())).toBe(true);
    expect(await scraped(stack.metrics, "upstream_oauth_total")).toMatchObject({
      [`step="revoke",outcome="${outcome}"`]: 1,
    });
  } finally {
    await Promise.all([stack.close(), upstream.close()]);
  }
});
