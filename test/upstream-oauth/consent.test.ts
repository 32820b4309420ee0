import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { callbackId, callbackUri } from "../../src/config/callback-urls.ts";
import type { PendingConsent } from "../../src/upstream-oauth/upstream-oauth.ts";
import { scraped } from "../support/scraped.ts";
import { type ScriptedUpstream, scriptedUpstream } from "./scripted-upstream.ts";
import { alice, host, type OAuthClientStack, startOAuthClient } from "./start-oauth-client.ts";

const returnTo = "https://mcp.test/done";
const key = (upstream: ScriptedUpstream, userId = alice) => ({
  userId,
  routeId: "files",
  upstream: upstream.mcp,
});

describe("consent", () => {
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeEach(async () => {
    upstream = await scriptedUpstream();
    stack = await startOAuthClient(route());
  });
  afterEach(async () => {
    await Promise.all([upstream.close(), stack.close()]);
  });
  const route = (server = "{}") =>
    `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: ${server}}}`;
  const explicit = (more = "", endpoint = "") =>
    route(
      `{upstream_oauth2: {client_id: known, client_secret: a-secret, endpoint: {auth_url: "${upstream.url}/authorize", token_url: "${upstream.url}/token"${endpoint}}${more}}}`,
    );
  async function begin(userId = alice) {
    const result = await stack.upstreamOAuth.begin({ userId, route: stack.route(), returnTo });
    if (!result.ok) throw new Error(`${result.code}: ${result.message}`);
    const query = new URL(result.location).searchParams;
    callbacks.set(result.state, query.get("redirect_uri") ?? "");
    return { ...result, query };
  }
  /** The callback of each flow, by its state. */
  const callbacks = new Map<string, string>();
  const finish = (params: URLSearchParams, browserState: string | undefined, userId = alice, at = host) => {
    const callback = callbacks.get(params.get("state") ?? "") ?? "";
    return stack.upstreamOAuth.finish({ params, callback, host: at, userId, browserState });
  };
  const discoveredCallback = () =>
    callbackUri(stack.routes().config, host, callbackId(stack.route(), upstream.url));

  it("a completed authorization stores a token with everything needed to use, refresh and revoke it", async () => {
    upstream.metadata.revocation_endpoint = `${upstream.url}/revoke`;
    upstream.tokenFields.scope = "read";
    upstream.tokenFields.refresh_token_expires_in = 86_400;
    const { location, state, query } = await begin();
    expect(Object.fromEntries(query)).toMatchObject({
      response_type: "code",
      redirect_uri: discoveredCallback(),
      code_challenge_method: "S256",
      scope: "read write",
      resource: upstream.mcp,
    });
    const finished = await finish(upstream.agree(location), state);
    expect(finished).toEqual({ ok: true, routeId: "files", returnTo, popup: false });
    const token = await stack.store.upstreamTokens.find(key(upstream));
    expect(token).toMatchObject({
      issuer: upstream.url,
      tokenEndpoint: `${upstream.url}/token`,
      revocationEndpoint: `${upstream.url}/revoke`,
      clientId: upstream.registered[0]?.clientId,
      tokenType: "Bearer",
      scopes: ["read"],
      resource: upstream.mcp,
    });
    expect(token?.refreshExpiresAt).toBeInstanceOf(Date);
    expect(upstream.tokenRequests[0]?.get("resource")).toBe(upstream.mcp);
    expect(await stack.store.upstreamTokens.find(key(upstream, "company/bob"))).toBeUndefined();
  });

  it("registers as a web application that refreshes, once for all users and replicas", async () => {
    const other = await stack.replica();
    const begins = await Promise.all(
      [stack, other, stack, other].map((replica, index) =>
        replica.upstreamOAuth.begin({ userId: `company/${index}`, route: stack.route(), returnTo }),
      ),
    );
    expect(begins.every(({ ok }) => ok)).toBe(true);
    expect(upstream.registered.map(({ body }) => body)).toEqual([
      expect.objectContaining({
        application_type: "web",
        redirect_uris: [discoveredCallback()],
        grant_types: ["authorization_code", "refresh_token"],
        token_endpoint_auth_method: "client_secret_basic",
      }),
    ]);
  });

  it.each([
    [{ status: 400, body: { error: "invalid_redirect_uri" } }, "registration_rejected", false],
    [{ status: 403, body: "no" }, "registration_rejected", false],
    [{ status: 429, body: "slow" }, "rate_limited", true],
    [{ status: 503, body: "down" }, "server_error", true],
    [{ status: 201, body: { nothing: 1 } }, "response_invalid", false],
  ])("a registration that fails says so: %o", async (answer, code, retryable) => {
    upstream.on("/register", answer);
    const result = await stack.upstreamOAuth.begin({ userId: alice, route: stack.route(), returnTo });
    expect(result).toMatchObject({ ok: false, code, retryable });
    upstream.on("/register", { status: 201, body: { client_id: "second-try" } });
    expect((await begin()).query.get("client_id")).toBe("second-try");
  });

  it("accepts a server that returns 200, or omits the expiry of its secret", async () => {
    upstream.on("/register", { status: 200, body: { client_id: "sloppy", client_secret: "s" } });
    expect((await begin()).query.get("client_id")).toBe("sloppy");
  });

  it("registers again if the server no longer knows the client, before redirecting the user", async () => {
    await begin();
    const [first] = upstream.registered;
    upstream.clients.clear();
    const redirectUri = discoveredCallback();
    const stored = await stack.store.clientRegistrations.find(upstream.url, redirectUri);
    if (!stored) throw new Error("nothing stored");
    await stack.store.clientRegistrations.delete(upstream.url, redirectUri, stored.clientId);
    const aged = { ...stored, metadata: { registeredAt: 0 } };
    await stack.store.clientRegistrations.getOrRegister(upstream.url, redirectUri, async () => aged);
    const { query } = await begin();
    expect(upstream.registered.length).toBe(2);
    expect(query.get("client_id")).toBe(upstream.registered[1]?.clientId);
    expect(query.get("client_id")).not.toBe(first?.clientId);
  });

  it("a client that is lost during the authorization is registered again, and the browser is redirected once more", async () => {
    const { location, state } = await begin();
    upstream.clients.clear();
    const finished = await finish(upstream.agree(location), state);
    const again = finished.ok ? finished.again : undefined;
    if (!again) throw new Error("not sent again");
    expect(upstream.registered.length).toBe(2);
    const query = new URL(again.location).searchParams;
    expect(query.get("client_id")).toBe(upstream.registered[1]?.clientId);
    callbacks.set(again.state, query.get("redirect_uri") ?? "");
    upstream.clients.clear();
    expect(await finish(upstream.agree(again.location), again.state)).toMatchObject({
      ok: false,
      code: "client_rejected",
      returnTo,
    });
    expect(await stack.store.upstreamTokens.find(key(upstream))).toBeUndefined();
    await stack.connect(upstream.agree);
    expect(upstream.registered.length).toBe(3);
  });

  it("a registered secret that is about to expire is not used for a new flow", async () => {
    upstream.on("/register", () => {
      const client_id = randomUUID();
      const soon = Math.floor(Date.now() / 1000) + 30;
      return { status: 201, body: { client_id, client_secret: "s", client_secret_expires_at: soon } };
    });
    const first = (await begin()).query.get("client_id");
    expect((await begin()).query.get("client_id")).not.toBe(first);
  });

  it("without dynamic registration, the error says what the operator must register by hand", async () => {
    upstream.metadata.registration_endpoint = undefined;
    const result = await stack.upstreamOAuth.begin({ userId: alice, route: stack.route(), returnTo });
    expect(result).toMatchObject({ ok: false, code: "registration_unavailable" });
    if (!result.ok) expect(result.message).toContain("/.pomerium/mcp/client/oauth/callback");
  });

  it.each([
    [{ token_endpoint_auth_methods_supported: ["tls_client_auth"] }],
    [
      {
        token_endpoint_auth_methods_supported: ["private_key_jwt"],
        token_endpoint_auth_signing_alg_values_supported: ["EdDSA"],
      },
    ],
  ])(
    "if a server registers only unsupported methods, the error says so without a request: %o",
    async (metadata) => {
      Object.assign(upstream.metadata, metadata);
      const result = await stack.upstreamOAuth.begin({ userId: alice, route: stack.route(), returnTo });
      expect(result).toMatchObject({ ok: false, code: "registration_unavailable" });
      expect(upstream.registered).toEqual([]);
    },
  );

  it("uses the client document if configured, serves it for auto-discovered routes only, and needs no registration", async () => {
    const settings =
      "upstream_oauth: {allowed_private_hosts: [127.0.0.1], client_id_metadata_document: always}";
    await stack.close();
    stack = await startOAuthClient(route(), { settings });
    const { query } = await begin();
    const id = callbackId(stack.route(), upstream.url);
    const document = stack.upstreamOAuth.clientMetadataDocument(host, { id });
    expect(query.get("client_id")).toBe(`https://mcp.test/.pomerium/mcp/client/${id}/metadata.json`);
    expect(document).toMatchObject({
      client_id: query.get("client_id"),
      redirect_uris: [query.get("redirect_uri")],
    });
    expect(upstream.registered).toEqual([]);
    expect(stack.upstreamOAuth.clientMetadataDocument("auth.test")).toBeUndefined();
    await stack.reconfigure(explicit());
    expect(stack.upstreamOAuth.clientMetadataDocument(host)).toBeUndefined();
    expect(stack.upstreamOAuth.clientMetadataDocument(host, { id })).toBeUndefined();
  });

  it("a client document has one callback of one route; the one without an id is for hosts with one OAuth route", async () => {
    const id = callbackId(stack.route(), upstream.url);
    const clientBase = "https://mcp.test/.pomerium/mcp/client";
    expect(stack.upstreamOAuth.clientMetadataDocument(host)).toMatchObject({
      client_id: `${clientBase}/metadata.json`,
      redirect_uris: [`${clientBase}/oauth/callback`],
    });
    expect(stack.upstreamOAuth.clientMetadataDocument(host, { id, confidential: true })).toMatchObject({
      client_id: `${clientBase}/${id}/confidential.json`,
      redirect_uris: [`${clientBase}/oauth/callback/${id}`],
    });
    for (const other of ["", "x", id.slice(1), `${id}x`, callbackId({ id: "another" }, upstream.url)])
      expect(stack.upstreamOAuth.clientMetadataDocument(host, { id: other })).toBeUndefined();
    await stack.reconfigure(
      `${route()}\n  - {id: more, from: https://mcp.test/more, to: https://more.test, mcp: {server: {}}}`,
    );
    expect(stack.upstreamOAuth.clientMetadataDocument(host)).toBeUndefined();
    expect(stack.upstreamOAuth.clientMetadataDocument(host, { id })).toMatchObject({
      redirect_uris: [discoveredCallback()],
    });
  });

  it("a client registered by hand keeps the callback without an id while its host has one OAuth route", async () => {
    await stack.reconfigure(explicit());
    upstream.clients.add("known");
    const alone = await begin();
    const old = "https://mcp.test/.pomerium/mcp/client/oauth/callback";
    expect(alone.query.get("redirect_uri")).toBe(old);
    const more = "\n  - {id: more, from: https://mcp.test/more, to: https://more.test, mcp: {server: {}}}";
    await stack.reconfigure(explicit() + more);
    const among = await begin();
    expect(among.query.get("redirect_uri")).toBe(`${old}/${callbackId(stack.route())}`);
    const params = upstream.agree(among.location);
    params.delete("iss");
    expect(await finish(params, among.state)).toMatchObject({ ok: true });
    // A flow from before the other route was added: its callback is ambiguous now.
    expect(await finish(upstream.agree(alone.location), alone.state)).toMatchObject({
      ok: false,
      code: "state_of_other_server",
    });
  });

  const application =
    "\n  - {id: app, from: https://mcp.test/app, to: https://app.test, mcp: {client: {shares_host: true}}}";

  it("an application that shares the host gets no code: callbacks are on the issuer's host, also in client documents published before", async () => {
    const id = callbackId(stack.route(), upstream.url);
    const { config } = stack.routes();
    await stack.reconfigure(route() + application);
    const { location, state, query } = await begin();
    const moved = callbackUri(config, "auth.test", id);
    expect(query.get("redirect_uri")).toBe(moved);
    expect(stack.upstreamOAuth.clientMetadataDocument("auth.test", { id })).toMatchObject({
      client_id: `https://auth.test/.pomerium/mcp/client/${id}/metadata.json`,
      redirect_uris: [moved],
    });
    const here = "https://mcp.test/.pomerium/mcp/client";
    expect(stack.upstreamOAuth.clientMetadataDocument(host, { id })).toMatchObject({
      client_id: `${here}/${id}/metadata.json`,
      redirect_uris: [moved],
    });
    expect(stack.upstreamOAuth.clientMetadataDocument(host)).toMatchObject({
      client_id: `${here}/metadata.json`,
      redirect_uris: [callbackUri(config, "auth.test", callbackId(stack.route()))],
    });
    expect(stack.upstreamOAuth.clientMetadataDocument("auth.test")).toBeUndefined();
    expect(await finish(upstream.agree(location), state, alice, "auth.test")).toMatchObject({ ok: true });
  });

  it("a flow that started before an application shared the host cannot finish there", async () => {
    const { location, state } = await begin();
    await stack.reconfigure(route() + application);
    expect(await finish(upstream.agree(location), state)).toMatchObject({
      ok: false,
      code: "state_of_other_server",
    });
  });

  it.each([
    [
      "the client id of another client of the gateway",
      { client_id: "https://mcp.test/.pomerium/mcp/client/metadata.json" },
    ],
    ["other redirect URIs", { client_id: "c", redirect_uris: ["https://evil.test/callback"] }],
    [
      "more redirect URIs",
      (uri: string) => ({ client_id: "c", redirect_uris: [uri, "https://evil.test/callback"] }),
    ],
  ])("a registration that answers with %s is rejected", async (_what, answer) => {
    const body = typeof answer === "function" ? answer(discoveredCallback()) : answer;
    upstream.on("/register", { status: 201, body });
    const result = await stack.upstreamOAuth.begin({ userId: alice, route: stack.route(), returnTo });
    expect(result).toMatchObject({ ok: false, code: "registration_rejected" });
  });

  it("a token of the client document from before there was one per server is refreshed, and replaced by consent when that document is gone", async () => {
    const settings =
      "upstream_oauth: {allowed_private_hosts: [127.0.0.1], client_id_metadata_document: always}";
    await stack.close();
    stack = await startOAuthClient(route(), { settings });
    const clientBase = "https://mcp.test/.pomerium/mcp/client";
    upstream.clients.add(`${clientBase}/metadata.json`);
    upstream.refreshTokens.add("old-refresh-token");
    const old = {
      ...key(upstream),
      issuer: upstream.url,
      tokenEndpoint: `${upstream.url}/token`,
      clientId: `${clientBase}/metadata.json`,
      redirectUri: `${clientBase}/oauth/callback`,
      accessToken: "old",
      tokenType: "Bearer",
      refreshToken: "old-refresh-token",
      scopes: [],
    } as const;
    const version = await stack.store.upstreamTokens.put(old, { action: "upstream_token.obtained" });
    const stored = { ...old, version, connectedAt: new Date(), updatedAt: new Date() };
    expect(await stack.upstreamOAuth.refresh(stored, stack.route())).toMatchObject({ kind: "refreshed" });
    await stack.reconfigure(route() + application);
    upstream.refreshTokens.add("old-refresh-token");
    expect(await stack.upstreamOAuth.refresh(stored, stack.route())).toMatchObject({ kind: "refreshed" });
    await stack.reconfigure(
      `${route()}\n  - {id: more, from: https://mcp.test/more, to: https://more.test, mcp: {server: {}}}`,
    );
    // The server fetches the document again, which no longer exists.
    upstream.clients.clear();
    expect(await stack.upstreamOAuth.refresh(stored, stack.route())).toMatchObject({
      kind: "rejected",
      reason: "client_registration_lost",
    });
  });

  it("a host that is not public does not use a document: registers at a server that supports both", async () => {
    upstream.metadata.client_id_metadata_document_supported = true;
    await begin();
    expect(upstream.registered.length).toBe(1);
  });

  it("explicit endpoints: nothing is discovered, S256 is sent regardless, client secret and scopes are used", async () => {
    await stack.reconfigure(explicit(", scopes: [a, b], authorization_url_params: {access_type: offline}"));
    upstream.clients.add("known");
    const { location, state, query } = await begin();
    expect(upstream.seen).toEqual([]);
    expect(query.get("code_challenge_method")).toBe("S256");
    expect(query.get("access_type")).toBe("offline");
    expect(query.get("state")).toBe(state);
    expect(query.get("scope")).toBe("a b");
    const params = upstream.agree(location);
    params.delete("iss");
    expect(await finish(params, state)).toMatchObject({ ok: true });
    const basic = upstream.seen[0]?.headers.authorization;
    expect(basic).toBe(`Basic ${Buffer.from("known:a-secret").toString("base64")}`);
  });

  it("auth_style is used; without it, Basic is tried first, then the body", async () => {
    await stack.reconfigure(explicit("", ", auth_style: params"));
    upstream.clients.add("known");
    const first = await begin();
    await finish(upstream.agree(first.location), first.state);
    expect(upstream.tokenRequests[0]?.get("client_secret")).toBe("a-secret");
    await stack.reconfigure(explicit());
    const second = await begin();
    upstream.tokenAnswers.push({ status: 401, body: { error: "invalid_client" } });
    expect(await finish(upstream.agree(second.location), second.state)).toMatchObject({ ok: true });
    expect(upstream.tokenRequests[1]?.has("client_secret")).toBe(false);
    expect(upstream.tokenRequests[2]?.get("client_secret")).toBe("a-secret");
  });

  it("a pre-registered client is used at the server that discovery finds", async () => {
    await stack.reconfigure(route("{upstream_oauth2: {client_id: known, client_secret: a-secret}}"));
    upstream.clients.add("known");
    const { location, state, query } = await begin();
    expect(query.get("client_id")).toBe("known");
    expect(await finish(upstream.agree(location), state)).toMatchObject({ ok: true });
    expect(upstream.registered).toEqual([]);
  });

  it("requests the challenge's scopes rather than the metadata's, and offline access if offered", async () => {
    upstream.on("/mcp", { status: 401, headers: { "www-authenticate": 'Bearer scope="only this"' } });
    upstream.metadata.scopes_supported = ["only", "offline_access"];
    const { query } = await begin();
    expect(query.get("scope")).toBe("only this offline_access");
    expect(query.get("prompt")).toBe("consent");
  });

  it("a step-up requests the union of granted, required and configured scopes", async () => {
    await stack.connect(upstream.agree);
    const connection = key(upstream);
    await stack.store.upstreamTokens.requireScopes(connection, { scopes: ["admin"], requiredAt: new Date() });
    const asked = { userId: alice, route: stack.route(), returnTo };
    const first = await stack.upstreamOAuth.begin(asked);
    expect(first).toMatchObject({ ok: false, code: "notice_needed", notice: { added: ["admin"] } });
    const less = await stack.upstreamOAuth.begin({
      ...asked,
      shown: { server: upstream.host, scopes: ["read", "write"] },
    });
    expect(less).toMatchObject({ ok: false, code: "notice_needed" });
    const shown = { server: upstream.host, scopes: ["admin", "read", "write"] };
    const begun = await stack.upstreamOAuth.begin({ ...asked, shown });
    if (!begun.ok) throw new Error(begun.message);
    const scope = new URL(begun.location).searchParams.get("scope");
    expect(scope?.split(" ").sort()).toEqual(["admin", "read", "write"]);
  });

  it("required scopes above the operator's ceiling end in 403 and are not stored", async () => {
    await stack.reconfigure(route("{upstream_oauth2: {max_scopes: [read, write]}}"));
    await stack.connect(upstream.agree);
    const token = await stack.store.upstreamTokens.find(key(upstream));
    const refusal = { userId: alice, routeId: "files", version: token?.version, status: 403 } as const;
    const wwwAuthenticate = 'Bearer error="insufficient_scope", scope="write admin"';
    expect(await stack.upstreamTokens.handleRejection({ ...refusal, wwwAuthenticate })).toMatchObject({
      kind: "give_up",
      status: 403,
      reason: "scope_above_ceiling",
    });
    expect(await stack.store.upstreamTokens.findRequiredScopes(key(upstream))).toBeUndefined();
    // Required scopes stored before there was a ceiling.
    await stack.store.upstreamTokens.requireScopes(key(upstream), {
      scopes: ["admin"],
      requiredAt: new Date(),
    });
    const { query } = await begin();
    expect(query.get("scope")?.split(" ").sort()).toEqual(["read", "write"]);
  });

  it("the scopes that an upstream requires are limited, however often it requires more", async () => {
    await stack.connect(upstream.agree);
    for (const round of ["a", "b", "c"]) {
      const token = await stack.store.upstreamTokens.find(key(upstream));
      const many = Array.from({ length: 90 }, (_, index) => `${round}${index}`).join(" ");
      const wwwAuthenticate = `Bearer error="insufficient_scope", scope="${many} ${"x".repeat(300)}"`;
      const refusal = { userId: alice, routeId: "files", version: token?.version, status: 403 } as const;
      await stack.upstreamTokens.handleRejection({ ...refusal, wwwAuthenticate });
    }
    const demand = await stack.store.upstreamTokens.findRequiredScopes(key(upstream));
    expect(demand?.scopes.length).toBeLessThanOrEqual(100);
    expect(demand?.scopes.length).toBeGreaterThan(0);
    expect(demand?.scopes.join().length).toBeLessThan(1000);
  });

  it("a user who denies access returns with access_denied to where the flow started", async () => {
    const { state } = await begin();
    const params = new URLSearchParams({ error: "access_denied", state, iss: upstream.url });
    const result = await finish(params, state);
    expect(result).toMatchObject({
      ok: false,
      code: "consent_denied",
      oauthError: "access_denied",
      returnTo,
    });
    expect(await stack.query("select action from audit_event")).toEqual([{ action: "consent.denied" }]);
  });

  it("authorizations are counted by outcome, discovery lookups by cache result", async () => {
    const agreed = await begin();
    expect(await scraped(stack.metrics, "cache_lookups_total")).toEqual({
      'cache="discovery",result="miss"': 2,
    });
    await finish(upstream.agree(agreed.location), agreed.state);
    for (const error of ["access_denied", "invalid_scope"]) {
      const { state } = await begin();
      await finish(new URLSearchParams({ error, state, iss: upstream.url }), state);
    }
    upstream.clients.clear();
    const forgotten = await begin();
    upstream.on("/register", { status: 503, body: "down" });
    await finish(upstream.agree(forgotten.location), forgotten.state);
    await stack.upstreamOAuth.begin({ userId: alice, route: stack.route(), returnTo });
    expect(await scraped(stack.metrics, "consents_total")).toEqual({
      'kind="upstream",outcome="started"': 4,
      'kind="upstream",outcome="granted"': 1,
      'kind="upstream",outcome="denied"': 1,
      'kind="upstream",outcome="failed"': 2,
    });
    expect(await scraped(stack.metrics, "authorization_duration_seconds_count")).toEqual({
      'kind="upstream",outcome="granted"': 1,
      'kind="upstream",outcome="denied"': 1,
      'kind="upstream",outcome="failed"': 2,
    });
    expect(await scraped(stack.metrics, "upstream_oauth_total")).toEqual({
      'step="begin",outcome="ok"': 4,
      'step="begin",outcome="server_error"': 1,
      'step="finish",outcome="ok"': 1,
      'step="finish",outcome="consent_denied"': 1,
      'step="finish",outcome="authorization_rejected"': 1,
      // The rejected client could not be registered again.
      'step="finish",outcome="server_error"': 1,
    });
    expect(await scraped(stack.metrics, "cache_lookups_total")).toEqual({
      'cache="discovery",result="miss"': 2,
      'cache="discovery",result="hit"': 10,
    });
  });

  it("the duration of a flow counts from its begin, on the replica that finishes it", async () => {
    const { location, state } = await begin();
    const { pendingAuthorizations } = stack.store;
    const begun = await pendingAuthorizations.consume<PendingConsent>("upstream", state);
    if (!begun) throw new Error("nothing is pending");
    const begunAt = Date.now() - 100_000;
    await pendingAuthorizations.create({ ...begun, payload: { ...begun.payload, begunAt } });
    const other = await stack.replica();
    const params = upstream.agree(location);
    const callback = new URL(location).searchParams.get("redirect_uri") ?? "";
    const asked = { params, callback, host, userId: alice, browserState: state };
    expect(await other.upstreamOAuth.finish(asked)).toMatchObject({ ok: true });
    const sum = await scraped(other.metrics, "authorization_duration_seconds_sum");
    expect(sum['kind="upstream",outcome="granted"']).toBeGreaterThanOrEqual(100);
    expect(await scraped(stack.metrics, "authorization_duration_seconds_count")).toEqual({});
  });

  it("another error of the authorization page is reported without its description", async () => {
    const { state } = await begin();
    const params = new URLSearchParams({
      error: "invalid_scope",
      error_description: "<script>",
      state,
      iss: upstream.url,
    });
    const result = await finish(params, state);
    expect(result).toMatchObject({ ok: false, code: "authorization_rejected", oauthError: "server_error" });
    expect(JSON.stringify(result)).not.toContain("script");
  });

  it("a state from another browser is rejected, and not consumed by the attempt", async () => {
    const { location, state } = await begin();
    const params = upstream.agree(location);
    for (const cookie of [undefined, "", "another-state"]) {
      expect(await finish(params, cookie)).toMatchObject({ ok: false, code: "state_of_other_browser" });
    }
    expect(upstream.tokenRequests).toEqual([]);
    expect(await finish(params, state)).toMatchObject({ ok: true });
  });

  it("limits.pending_authorizations_per_user: above the limit, the oldest pending authorization is dropped and counted", async () => {
    await stack.close();
    const upstreams = "upstream_oauth: {allowed_private_hosts: [127.0.0.1]}";
    const settings = `limits: {pending_authorizations_per_user: 1}\n${upstreams}`;
    stack = await startOAuthClient(route(), { settings });
    const [oldest, newest] = [await begin(), await begin()];
    const late = await finish(upstream.agree(oldest.location), oldest.state);
    expect(late).toMatchObject({ ok: false, code: "state_unknown" });
    const counted = (await stack.metrics.limitsReached.get()).values;
    expect(counted).toEqual([{ labels: { limit: "pending_authorizations_per_user" }, value: 1 }]);
    expect(await finish(upstream.agree(newest.location), newest.state)).toMatchObject({ ok: true });
  });

  it("the callback requires the same user and host as the start of the flow", async () => {
    const first = await begin();
    const asBob = await finish(upstream.agree(first.location), first.state, "company/bob");
    expect(asBob).toMatchObject({ ok: false, code: "state_of_other_user" });
    expect(asBob).not.toHaveProperty("returnTo", returnTo);
    const second = await begin();
    const elsewhere = await finish(upstream.agree(second.location), second.state, alice, "other.test");
    expect(elsewhere).toMatchObject({ ok: false, code: "state_of_other_user" });
    expect(await stack.store.upstreamTokens.find(key(upstream))).toBeUndefined();
  });

  it("the callback works once: replayed or raced, it redeems one code", async () => {
    const { location, state } = await begin();
    const params = upstream.agree(location);
    const results = await Promise.all([1, 2, 3].map(() => finish(params, state)));
    expect(results.filter(({ ok }) => ok).length).toBe(1);
    expect(await finish(params, state)).toMatchObject({ ok: false, code: "state_unknown" });
    expect(upstream.tokenRequests.length).toBe(1);
  });

  it("a state that has expired, is unknown or missing is rejected", async () => {
    const { location, state } = await begin();
    await stack.query("update pending_authorization set expires_at = now() - interval '1 second'");
    const params = upstream.agree(location);
    expect(await finish(params, state)).toMatchObject({ ok: false, code: "state_unknown" });
    expect(await finish(new URLSearchParams({ state: "x" }), "x")).toMatchObject({ code: "state_unknown" });
    expect(await finish(new URLSearchParams({ code: "x" }), undefined)).toMatchObject({
      code: "state_missing",
    });
    expect(await finish(new URLSearchParams("state=a&state=b"), "a")).toMatchObject({
      code: "state_missing",
    });
  });

  it.each([
    ["another issuer", { iss: "https://evil.test" }],
    ["a look-alike", (url: string) => ({ iss: `${url}/` })],
    ["none although advertised", { iss: "" }],
  ])(
    "a response that names %s is rejected before the code is redeemed, on errors too",
    async (_what, extra) => {
      const fields = typeof extra === "function" ? extra(upstream.url) : extra;
      for (const kind of ["code", "error"]) {
        const { location, state } = await begin();
        const params = upstream.agree(location, fields);
        if (kind === "error") {
          params.delete("code");
          params.set("error", "access_denied");
        }
        if (!params.get("iss")) params.delete("iss");
        expect(await finish(params, state)).toMatchObject({ ok: false, code: "issuer_mismatch" });
      }
      expect(upstream.tokenRequests).toEqual([]);
    },
  );

  it.each<[string, Record<string, unknown>]>([
    ["no access token", { access_token: undefined }],
    ["an access token that is no text", { access_token: { a: 1 } }],
    ["an unknown type", { token_type: "mac" }],
    ["a DPoP token nobody asked for", { token_type: "DPoP" }],
  ])("a token response with %s is rejected", async (_what, fields) => {
    Object.assign(upstream.tokenFields, fields);
    const { location, state } = await begin();
    expect(await finish(upstream.agree(location), state)).toMatchObject({ ok: false, code: "token_invalid" });
    expect(await stack.store.upstreamTokens.find(key(upstream))).toBeUndefined();
  });

  it.each([undefined, -1, 0, 1e15, "soon"])(
    "a token with expires_in %s has no expiry; an ID token that cannot be checked is ignored",
    async (expiresIn) => {
      Object.assign(upstream.tokenFields, { expires_in: expiresIn, id_token: "not.a.jwt" });
      await stack.connect(upstream.agree);
      expect((await stack.store.upstreamTokens.find(key(upstream)))?.expiresAt).toBeUndefined();
    },
  );

  it("an error body is truncated for the log, never shown, and logged without secrets of the request", async () => {
    const { location, state } = await begin();
    upstream.tokenAnswers.push({ status: 400, body: { error: "invalid_grant", hint: "x".repeat(2000) } });
    const params = upstream.agree(location);
    const result = await finish(params, state);
    expect(result).toMatchObject({ ok: false, code: "token_request_rejected" });
    expect(JSON.stringify(result)).not.toContain("xxx");
    const line = stack.log.find((one) => one.includes("invalid_grant")) ?? "";
    expect(line).toContain("xxx");
    expect(line).not.toContain("x".repeat(513));
    for (const secret of [params.get("code"), "registered-secret", state]) {
      expect(stack.log.join()).not.toContain(secret);
    }
  });

  it("concurrent authorizations of one user do not affect each other", async () => {
    const [first, second] = [await begin(), await begin()];
    expect(await finish(upstream.agree(second.location), second.state)).toMatchObject({ ok: true });
    expect(await finish(upstream.agree(first.location), first.state)).toMatchObject({ ok: true });
  });

  it("a route that was disabled during the flow stores no token", async () => {
    const { location, state } = await begin();
    await stack.reconfigure(route().replace("id: files", "id: files, enabled: false"));
    expect(await finish(upstream.agree(location), state)).toMatchObject({
      ok: false,
      code: "route_unavailable",
    });
    expect(upstream.tokenRequests).toEqual([]);
  });

  it("the database has no secret of a pending authorization in clear text", async () => {
    const { state } = await begin();
    const rows = JSON.stringify(await stack.query("select * from pending_authorization"));
    expect(rows).not.toContain(state);
    expect(rows).not.toContain("codeVerifier");
  });
});
