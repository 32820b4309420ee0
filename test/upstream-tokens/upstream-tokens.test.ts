import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { connectionKeyName } from "../../src/model/connection.ts";
import type { NewUpstreamToken } from "../../src/store/upstream-tokens.ts";
import type { RejectionOutcome, TokenCaller } from "../../src/upstream-tokens/upstream-tokens.ts";
import { changes } from "../store/changes.ts";
import { scraped } from "../support/scraped.ts";
import type { Replica } from "../support/stack.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type OAuthClientStack, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

const caller: TokenCaller = { userId: alice, kind: "person" };

describe("upstream tokens", () => {
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeEach(async () => {
    upstream = await scriptedUpstream();
    upstream.metadata.revocation_endpoint = `${upstream.url}/revoke`;
    stack = await startOAuthClient(route());
  });
  afterEach(async () => {
    await Promise.all([upstream.close(), stack.close()]);
  });
  const route = (server = "{}") =>
    `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: ${server}}}`;
  const key = (userId = alice) => ({ userId, routeId: "files", upstream: upstream.mcp });
  const find = (who = caller, replica: Replica = stack, now?: number) =>
    replica.upstreamTokens.find(who, stack.route(), now);
  const stored = (userId?: string) => stack.store.upstreamTokens.find(key(userId));
  async function authorization(who = caller, replica: Replica = stack, now?: number) {
    const found = await find(who, replica, now);
    return found.kind === "credential" ? Object.fromEntries(found.headers).authorization : found;
  }
  /** Overwrites stored fields, as if time had passed. */
  async function overwrite(fields: Partial<NewUpstreamToken>) {
    const token = await stored();
    if (!token) throw new Error("nothing stored");
    const { version: _, connectedAt: __, updatedAt: ___, ...rest } = token;
    await stack.store.upstreamTokens.put({ ...rest, ...fields }, { action: "upstream_token.obtained" });
  }
  const expire = () => overwrite({ expiresAt: new Date(Date.now() - 1000) });
  const refreshes = () => upstream.tokenRequests.filter((one) => one.get("grant_type") === "refresh_token");
  const upstreamCalls = () => scraped(stack.metrics, "upstream_oauth_total");
  async function changed({ store }: Replica, act: () => Promise<unknown>) {
    // Notifications arrive in the order of the writes: after this one, none of an earlier write is pending.
    const nobody = key("company/nobody");
    const last = changes(store, (change) => "key" in change && change.key === connectionKeyName(nobody));
    await store.upstreamTokens.clearRequiredScopes(nobody);
    await last.next;
    last.stop();
    const { next, stop } = changes(store, ({ table }) => table === "upstream_token");
    await act();
    await next;
    stop();
  }

  describe("found", () => {
    it("a user without a connection is asked to consent, and another user's token is never used", async () => {
      await stack.connect(upstream.agree);
      const bob: TokenCaller = { userId: "company/bob", kind: "person" };
      expect(await find(bob)).toMatchObject({ kind: "missing", reason: "consent_needed" });
      expect(await authorization()).toBe(`Bearer ${(await stored())?.accessToken}`);
      await stack.connect(upstream.agree, "company/bob");
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, index) => authorization(index % 2 ? bob : caller)),
      );
      expect(answers).toEqual(
        await Promise.all(
          answers.map(async (_, index) => {
            const token = await stored(index % 2 ? bob.userId : alice);
            return `Bearer ${token?.accessToken}`;
          }),
        ),
      );
      expect(new Set(answers).size).toBe(2);
    });

    it("a cached credential is returned synchronously, with connection and version", async () => {
      await changed(stack, () => stack.connect(upstream.agree));
      // Nothing is cached while the listener is behind.
      await expect.poll(async () => [await find(), find()][1] instanceof Promise).toBe(false);
      const warm = find();
      expect(warm).not.toBeInstanceOf(Promise);
      expect(warm).toMatchObject({ kind: "credential", version: (await stored())?.version });
      expect(find()).toBe(warm);
    });

    it("a lookup of a cached connection is a hit, one from the store a miss", async () => {
      await changed(stack, () => stack.connect(upstream.agree));
      await find();
      await find();
      await find();
      await find({ userId: "company/bob", kind: "person" });
      expect(await scraped(stack.metrics, "cache_lookups_total")).toMatchObject({
        'cache="upstream_token",result="hit"': 2,
        'cache="upstream_token",result="miss"': 2,
      });
    });

    it("a token's first use is in the audit trail once, with client and grant", async () => {
      const bob: TokenCaller = { userId: "company/bob", kind: "person" };
      const used = { clientId: "editor", grantId: "grant-1" };
      await changed(stack, () => stack.connect(upstream.agree));
      for (const one of [used, used, { clientId: "another", grantId: "grant-2" }])
        await find({ ...caller, ...one });
      // Long enough for usage to be recorded again.
      await find(caller, stack, Date.now() + 6 * 60_000);
      await changed(stack, () => stack.connect(upstream.agree, bob.userId));
      await find(bob);
      const events = () => stack.store.auditEvents({ action: "upstream_token.first_used", limit: 10 });
      // Written in the background, in any order.
      await expect.poll(async () => (await events()).length).toBeGreaterThan(1);
      const byUser = (await events()).toSorted((a, b) => String(a.userId).localeCompare(String(b.userId)));
      expect(byUser).toEqual([
        expect.objectContaining({ ...key(), ...used, issuer: upstream.url }),
        expect.objectContaining(key(bob.userId)),
      ]);
    });

    it("a consent takes effect at once, regardless of the cache", async () => {
      for (const userId of ["company/a", "company/b", "company/c"]) {
        const who: TokenCaller = { userId, kind: "person" };
        expect(await find(who)).toMatchObject({ kind: "missing" });
        await stack.connect(upstream.agree, userId);
        expect((await stack.upstreamTokens.connectionState(userId, stack.route())).state).toBe("connected");
        expect(await find(who)).toMatchObject({ kind: "credential" });
      }
    });

    it("another replica's changes take effect at once, on warm replicas too", async () => {
      await stack.connect(upstream.agree);
      const other = await stack.replica();
      const before = await authorization(caller, other);
      await changed(other, () => stack.connect(upstream.agree));
      expect(await authorization(caller, other)).not.toBe(before);
      await changed(other, () => stack.upstreamTokens.disconnect(alice, stack.route()));
      expect(await find(caller, other)).toMatchObject({ kind: "missing" });
    });

    it("static credentials are sent synchronously, the same for all users", async () => {
      for (const [server, headers] of [
        ["{upstream_auth: none}", []],
        ["{upstream_auth: {api_key: {header: X-Api-Key, value: k}}}", [["x-api-key", "k"]]],
        [
          "{upstream_auth: {headers: {A: '1', B: '2'}}}",
          [
            ["a", "1"],
            ["b", "2"],
          ],
        ],
      ] as const) {
        await stack.reconfigure(route(server));
        expect(find()).toEqual({ kind: "credential", headers });
        expect(find({ userId: "service-account/x", kind: "service_account" })).toEqual(find());
        const state = await stack.upstreamTokens.connectionState(alice, stack.route());
        expect(state).toEqual({ state: "not_needed", missingScopes: [] });
      }
    });

    it("an upstream that requires no token gets none, until it does", async () => {
      upstream.on("/mcp", { body: {} });
      upstream.off("/.well-known/oauth-protected-resource/mcp");
      expect(await find()).toEqual({ kind: "credential", headers: [] });
      expect((await stack.upstreamTokens.connectionState(alice, stack.route())).state).toBe("not_needed");
      const refused = await refuse({ wwwAuthenticate: 'Bearer scope="x"' });
      expect(refused).toMatchObject({ kind: "consent", scopes: ["x"] });
      expect(await find()).toMatchObject({ kind: "missing", scopes: ["x"] });
      expect(await find({ userId: "company/bob", kind: "person" })).toMatchObject({ kind: "missing" });
    });

    it("a service account cannot consent: its owner's delegated connection, or 403", async () => {
      await stack.connect(upstream.agree);
      const machine: TokenCaller = { userId: "service-account/ci", kind: "service_account" };
      expect(await find(machine)).toMatchObject({ kind: "forbidden" });
      const delegate: TokenCaller = { ...machine, delegatedBy: alice };
      expect(await authorization(delegate)).toBe(await authorization());
      // Never a challenge: a service account cannot consent.
      await expire();
      upstream.on("/token", { status: 400, body: { error: "invalid_grant" } });
      const forbidden = {
        kind: "forbidden",
        reason: expect.stringContaining("its owner must connect the server again"),
      };
      // The cached token is used until the notification arrives.
      await expect.poll(() => find(delegate)).toEqual(forbidden);
      expect(await find(delegate)).toEqual(forbidden);
    });

    it("a service account needs no connection if the upstream requires no token, until it does", async () => {
      upstream.on("/mcp", { body: {} });
      upstream.off("/.well-known/oauth-protected-resource/mcp");
      const machine: TokenCaller = { userId: "service-account/ci", kind: "service_account" };
      expect(await find(machine)).toEqual({ kind: "credential", headers: [] });
      await refuse({ userId: machine.userId });
      expect(await find(machine)).toMatchObject({ kind: "forbidden" });
    });
  });

  describe("refreshed", () => {
    beforeEach(() => stack.connect(upstream.agree));

    it("inline at expiry: the new token is sent, the rotated refresh token is stored, the consent's date is kept", async () => {
      const before = await stored();
      await expire();
      const connectedAt = (await stored())?.connectedAt;
      upstream.tokenFields.scope = "read";
      expect(await authorization()).toBe(`Bearer ${(await stored())?.accessToken}`);
      const after = await stored();
      expect(after).toMatchObject({ connectedAt, scopes: ["read"] });
      expect(after?.accessToken).not.toBe(before?.accessToken);
      expect(after?.refreshToken).not.toBe(before?.refreshToken);
      expect(refreshes()[0]?.get("resource")).toBe(upstream.mcp);
    });

    it("once for any number of requests on any number of replicas", async () => {
      const other = await stack.replica();
      await expire();
      const replicas: Replica[] = [stack, other];
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, index) => authorization(caller, replicas[index % 2])),
      );
      expect(refreshes().length).toBe(1);
      expect(new Set(answers).size).toBe(1);
      expect(answers[0]).toBe(`Bearer ${(await stored())?.accessToken}`);
    });

    it("without rotation, the old refresh token is kept", async () => {
      const before = await stored();
      await expire();
      upstream.tokenFields.refresh_token = undefined;
      await find();
      expect((await stored())?.refreshToken).toBe(before?.refreshToken);
    });

    it("reading an expired connection's state refreshes it first", async () => {
      const look = async () => (await stack.upstreamTokens.connectionState(alice, stack.route())).state;
      await expire();
      expect(await look()).toBe("connected");
      expect(refreshes()).toHaveLength(1);
      await expire();
      upstream.refreshTokens.clear();
      // The refreshed token is cached until the notification arrives.
      await expect.poll(look).toBe("missing");
    });

    it("rejected with an unknown error code: recorded under a known code, to limit metrics", async () => {
      await expire();
      upstream.on("/token", { status: 400, body: { error: `made_up_${"x".repeat(10_000)}` } });
      expect(await find()).toMatchObject({ kind: "missing", reason: "token_request_rejected" });
    });

    it("rejected: exactly that version is deleted, and the user is asked to consent", async () => {
      await expire();
      upstream.refreshTokens.clear();
      expect(await find()).toMatchObject({ kind: "missing", reason: "invalid_grant" });
      expect(await stored()).toBeUndefined();
      expect(await stack.query("select action from audit_event order by id desc limit 1")).toEqual([
        { action: "upstream_token.rejected" },
      ]);
    });

    it("rejected, but the user consented in the meantime: that token is kept and used", async () => {
      await expire();
      upstream.refreshTokens.clear();
      upstream.beforeToken = async () => {
        upstream.beforeToken = undefined;
        await overwrite({ accessToken: "from-a-new-consent", expiresAt: undefined });
      };
      expect(await authorization()).toBe("Bearer from-a-new-consent");
      expect((await stored())?.accessToken).toBe("from-a-new-consent");
    });

    it.each([
      ["answered 500", { status: 500, body: "down" }],
      ["answered 503", { status: 503, body: { error: "temporarily_unavailable" } }],
      ["answered 429", { status: 429, body: {}, headers: { "retry-after": "7" } }],
      ["answered nonsense", { status: 200, body: "<html>" }],
    ])("%s: the token is kept, 503 with Retry-After, and backoff", async (_what, answer) => {
      await expire();
      upstream.tokenAnswers.push(answer);
      const found = await find();
      expect(found).toMatchObject({ kind: "unavailable", retryAfterSeconds: expect.any(Number) });
      if (found.kind === "unavailable" && answer.status === 429)
        expect(found.retryAfterSeconds).toBeGreaterThanOrEqual(7);
      expect(await stored()).toBeDefined();
      expect(await find()).toMatchObject({ kind: "unavailable" });
      expect(refreshes().length).toBe(1);
      const state = await stack.upstreamTokens.connectionState(alice, stack.route());
      expect(state.state).toBe("unavailable");
      expect(await authorization(caller, stack, Date.now() + 3_601_000)).toMatch(/^Bearer/);
    });

    it("every refresh is counted by its outcome, and its token request by the server's response", async () => {
      const expired = { expiresAt: new Date(0) };
      await expire();
      upstream.tokenAnswers.push({ status: 503, body: "down" });
      expect(await find()).toMatchObject({ kind: "unavailable" });
      await changed(stack, async () => find(caller, stack, Date.now() + 3_601_000));
      upstream.refreshTokens.clear();
      await changed(stack, () => overwrite(expired));
      expect(await find()).toMatchObject({ kind: "missing" });
      await stack.connect(upstream.agree);
      await changed(stack, () => overwrite({ ...expired, refreshExpiresAt: new Date(0) }));
      expect(await find()).toMatchObject({ kind: "missing" });
      expect(await scraped(stack.metrics, "upstream_token_refreshes_total")).toEqual({
        'outcome="refreshed"': 1,
        'outcome="obtained"': 0,
        'outcome="rejected"': 2,
        'outcome="unavailable"': 1,
      });
      expect(await upstreamCalls()).toMatchObject({
        'step="refresh",outcome="ok"': 1,
        'step="refresh",outcome="server_error"': 1,
        'step="refresh",outcome="token_request_rejected"': 1,
        'step="refresh",outcome="refresh_token_expired"': 1,
      });
    });

    it("timed out: the token is kept; the old one is used while it is valid", async () => {
      upstream.beforeToken = () => new Promise(() => {});
      await overwrite({ expiresAt: new Date(Date.now() + 3_600_000) });
      const late = Date.now() + 3_595_000;
      expect(await authorization(caller, stack, late)).toBe(`Bearer ${(await stored())?.accessToken}`);
      expect(await find(caller, stack, Date.now() + 3_600_001)).toMatchObject({ kind: "unavailable" });
      expect(await stored()).toBeDefined();
    });

    it("ahead of expiry: the request gets the old token at once, the next one the new", async () => {
      await overwrite({ expiresAt: new Date(Date.now() + 3_600_000) });
      const before = await authorization();
      const late = Date.now() + 3_595_000;
      await changed(stack, async () => expect(await authorization(caller, stack, late)).toBe(before));
      expect(await authorization()).not.toBe(before);
      expect(refreshes().length).toBe(1);
    });

    it("continues if the request that started it is canceled", async () => {
      await expire();
      const { promise: arrived, resolve: arrive } = Promise.withResolvers<void>();
      const { promise: released, resolve: release } = Promise.withResolvers<void>();
      upstream.beforeToken = () => {
        arrive();
        return released;
      };
      const first = find();
      await arrived;
      await changed(stack, async () => release());
      await first;
      expect(await authorization()).toBe(`Bearer ${(await stored())?.accessToken}`);
      expect(refreshes().length).toBe(1);
    });

    it("the lease of a replica that died is taken over after it expires", async () => {
      await expire();
      const version = (await stored())?.version ?? 0;
      const until = new Date(Date.now() + 600);
      expect(await stack.store.upstreamTokens.takeLease(key(), version, "dead-replica", until)).toBeDefined();
      // After a recent outage of the listener, no replica would take over for ten seconds.
      await expect.poll(() => authorization(), { timeout: 60_000 }).toMatch(/^Bearer/);
      expect(refreshes().length).toBe(1);
    });

    it("the refresh token's expiry is respected; without a refresh token, consent is required again", async () => {
      await overwrite({ expiresAt: new Date(0), refreshExpiresAt: new Date(Date.now() - 1) });
      expect(await find()).toMatchObject({ kind: "missing", reason: "refresh_token_expired" });
      await stack.connect(upstream.agree);
      await overwrite({ expiresAt: new Date(0), refreshToken: undefined });
      expect(await find()).toMatchObject({ kind: "missing", reason: "upstream_token_expired" });
      expect(refreshes()).toEqual([]);
    });

    it("a server that lost the registration: the token and the registration are deleted", async () => {
      await expire();
      upstream.clients.clear();
      expect(await find()).toMatchObject({ kind: "missing", reason: "client_registration_lost" });
      await stack.connect(upstream.agree);
      expect(upstream.registered.length).toBe(2);
    });

    it("a token is never refreshed with a different client than it was issued to", async () => {
      const registrationKey = { issuer: upstream.url, redirectUri: (await stored())?.redirectUri ?? "" };
      const clientId = (await stored())?.clientId ?? "";
      await stack.store.clientRegistrations.delete(
        registrationKey.issuer,
        registrationKey.redirectUri,
        clientId,
      );
      await stack.connect(upstream.agree, "company/bob");
      expect(upstream.registered.map((one) => one.clientId)).toEqual([clientId, expect.any(String)]);
      await expire();
      expect(await find()).toMatchObject({ kind: "missing", reason: "client_registration_missing" });
      expect(refreshes()).toEqual([]);
    });

    it("a store with a disconnected notification listener is read each time", async () => {
      await find();
      const { notifications } = stack.store;
      const healthy = notifications.healthy;
      notifications.healthy = () => false;
      const cold = find();
      expect(cold).toBeInstanceOf(Promise);
      notifications.healthy = healthy;
      expect(await cold).toMatchObject({ kind: "credential" });
    });
  });

  async function refuse(
    over: {
      version?: number;
      status?: 401 | 403;
      wwwAuthenticate?: string;
      userId?: string;
      upstreamHash?: string;
    } = {},
    replica: Replica = stack,
  ): Promise<RejectionOutcome> {
    const userId = over.userId ?? alice;
    const version = (await stored(userId))?.version;
    return replica.upstreamTokens.handleRejection({
      userId,
      routeId: "files",
      version,
      status: 401,
      wwwAuthenticate: 'Bearer error="invalid_token"',
      ...over,
    });
  }
  const wants = (...scopes: string[]) => ({
    status: 403 as const,
    wwwAuthenticate: `Bearer error="insufficient_scope", scope="${scopes.join(" ")}"`,
  });

  describe("rejected by the upstream", () => {
    beforeEach(() => stack.connect(upstream.agree));

    it("a 401 tries a refresh once: the client's retry carries the new token", async () => {
      const before = await authorization();
      expect(await refuse()).toEqual({ kind: "retry", reason: "refreshed" });
      expect(await authorization()).not.toBe(before);
      expect(refreshes().length).toBe(1);
    });

    it("a former upstream's 401 does not delete the token of the current one", async () => {
      const before = await stored();
      expect(await refuse({ upstreamHash: "former" })).toEqual({ kind: "retry", reason: "upstream_changed" });
      expect(await stored()).toEqual(before);
      expect(refreshes()).toEqual([]);
    });

    it("a 401 to a version that has been replaced already needs no refresh", async () => {
      const version = (await stored())?.version;
      await refuse();
      expect(await refuse({ version })).toEqual({ kind: "retry", reason: "newer_token" });
      expect(refreshes().length).toBe(1);
    });

    it("a 401 without a refresh token deletes exactly that version and asks for consent", async () => {
      upstream.refreshTokens.clear();
      const found = await refuse({ wwwAuthenticate: 'Bearer error="invalid_token", scope="extra"' });
      expect(found).toMatchObject({ kind: "consent", reason: "token_rejected" });
      if (found.kind === "consent") expect([...found.scopes].sort()).toEqual(["extra", "read", "write"]);
      expect(await stored()).toBeUndefined();
      const other = await stack.replica();
      expect(await find(caller, other)).toMatchObject({ kind: "missing" });
      await stack.connect(upstream.agree);
      expect(await authorization()).toMatch(/^Bearer/);
    });

    it("a server that rejects every token ends in an error, not in a loop", async () => {
      expect(await refuse()).toMatchObject({ kind: "retry" });
      expect(await refuse()).toMatchObject({ kind: "consent" });
      await stack.connect(upstream.agree);
      expect(await refuse()).toMatchObject({ kind: "give_up", status: 502 });
      expect(await refuse()).toMatchObject({ kind: "give_up", status: 502 });
    });

    it("a refresh that is not possible now: 503, and the token is kept", async () => {
      upstream.tokenAnswers.push({ status: 500, body: "down" });
      expect(await refuse()).toMatchObject({ kind: "unavailable" });
      expect(await stored()).toBeDefined();
    });

    it("step-up: consent for the union; afterwards the token with more scopes is sent", async () => {
      const found = await refuse(wants("admin"));
      expect(found).toMatchObject({ kind: "consent", reason: "scope_required" });
      if (found.kind === "consent") expect([...found.scopes].sort()).toEqual(["admin", "read", "write"]);
      expect(await find()).toMatchObject({ kind: "missing", reason: "scope_required" });
      expect(await stack.upstreamTokens.connectionState(alice, stack.route())).toEqual({
        state: "missing",
        missingScopes: ["admin"],
      });
      await stack.connect(upstream.agree);
      expect((await stored())?.scopes).toContain("admin");
      expect(await authorization()).toMatch(/^Bearer/);
    });

    it("required scopes are known on every replica at once", async () => {
      const other = await stack.replica();
      await find(caller, other);
      await changed(other, () => refuse(wants("admin")));
      expect(await find(caller, other)).toMatchObject({ kind: "missing", reason: "scope_required" });
    });

    it("no endless loop if a granted scope is still rejected, or is never granted", async () => {
      expect(await refuse(wants("read"))).toMatchObject({ kind: "give_up", status: 403 });
      expect(await refuse(wants("admin"))).toMatchObject({ kind: "consent" });
      upstream.tokenFields.scope = "read write";
      await stack.connect(upstream.agree);
      expect(await refuse(wants("admin"))).toMatchObject({ kind: "give_up", status: 403 });
    });

    it("any other 403 passes unchanged", async () => {
      expect(await refuse({ status: 403, wwwAuthenticate: "" })).toMatchObject({ kind: "untouched" });
      expect(await stored()).toBeDefined();
    });

    it("a rejected static credential is reported to the operator, not as a challenge", async () => {
      await stack.reconfigure(route("{upstream_auth: {api_key: {header: x-key, value: k}}}"));
      expect(await refuse()).toMatchObject({ kind: "give_up", status: 502 });
    });

    it("a server that has moved gets a new registration and consent; old credentials are not sent to it", async () => {
      const next = await scriptedUpstream();
      const moved = { resource: upstream.mcp, authorization_servers: [next.url] };
      upstream.on("/.well-known/oauth-protected-resource/mcp", { body: moved });
      upstream.refreshTokens.clear();
      expect(await refuse()).toMatchObject({ kind: "consent" });
      upstream.seen.length = 0;
      await stack.connect(next.agree);
      expect((await stored())?.issuer).toBe(next.url);
      expect(next.registered.length).toBe(1);
      expect(upstream.paths()).not.toContain("/token");
      const sent = next.seen.map((one) => `${one.headers.authorization} ${one.body}`).join();
      expect(sent).not.toContain(upstream.registered[0]?.clientId ?? "-");
      await next.close();
    });
  });

  it("credentials of the routes file stay with the server they belong to, until the operator names another", async () => {
    const oauth = "upstream_oauth2: {client_id: known, client_secret: a-secret}";
    await stack.reconfigure(route(`{${oauth}}`));
    upstream.clients.add("known");
    await stack.connect(upstream.agree);
    const next = await scriptedUpstream();
    next.clients.add("known");
    const moved = { resource: upstream.mcp, authorization_servers: [next.url] };
    upstream.on("/.well-known/oauth-protected-resource/mcp", { body: moved });
    stack.upstreamOAuth.forget(stack.route());
    const begin = () =>
      stack.upstreamOAuth.begin({ userId: alice, route: stack.route(), returnTo: "https://mcp.test/" });
    expect(await begin()).toMatchObject({ ok: false, code: "issuer_changed" });
    expect(next.seen.map(({ body }) => body).join()).toBe("");
    await stack.reconfigure(route(`{${oauth}, authorization_server_url: "${next.url}"}`));
    await stack.connect(next.agree);
    expect((await stored())?.issuer).toBe(next.url);
    await next.close();
  });

  describe("disconnected", () => {
    beforeEach(() => stack.connect(upstream.agree));

    it("revokes both tokens upstream, and deletes them here", async () => {
      const token = await stored();
      const revoked: string[] = [];
      upstream.on("/revoke", ({ form }) => {
        revoked.push(form.get("token") ?? "");
        return { body: {} };
      });
      expect(await stack.upstreamTokens.disconnect(alice, stack.route())).toBe(true);
      expect(revoked).toEqual([token?.refreshToken, token?.accessToken]);
      expect(await upstreamCalls()).toMatchObject({ 'step="revoke",outcome="ok"': 1 });
      expect(await stored()).toBeUndefined();
      expect(await find()).toMatchObject({ kind: "missing" });
      expect(await stack.upstreamTokens.disconnect(alice, stack.route())).toBe(false);
    });

    it("deletes them here even if the revocation fails", async () => {
      upstream.on("/revoke", { status: 500, body: "no" });
      expect(await stack.upstreamTokens.disconnect(alice, stack.route())).toBe(true);
      expect(await upstreamCalls()).toMatchObject({ 'step="revoke",outcome="server_error"': 1 });
      expect(await stored()).toBeUndefined();
    });

    it("during a refresh: the new token is revoked upstream too", async () => {
      await expire();
      const [arrived, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      upstream.beforeToken = () => {
        arrived.resolve();
        return released.promise;
      };
      const revoked: string[] = [];
      upstream.on("/revoke", ({ form }) => {
        revoked.push(form.get("token") ?? "");
        return { body: {} };
      });
      const found = find();
      await arrived.promise;
      await stack.upstreamTokens.disconnect(alice, stack.route());
      const before = new Set(revoked);
      released.resolve();
      expect(await found).toMatchObject({ kind: "missing" });
      expect(await stored()).toBeUndefined();
      // Refresh token and access token of the response, both new.
      expect(revoked.filter((token) => token && !before.has(token))).toHaveLength(2);
    });

    it("a removed user: all their connections, and no others", async () => {
      await stack.connect(upstream.agree, "company/bob");
      const revoked: string[] = [];
      upstream.on("/revoke", ({ form }) => {
        revoked.push(form.get("token") ?? "");
        return { body: {} };
      });
      const token = await stored();
      expect(await stack.upstreamTokens.disconnectAll(alice)).toBe(1);
      expect(revoked).toEqual([token?.refreshToken, token?.accessToken]);
      expect(await stored()).toBeUndefined();
      expect(await stored("company/bob")).toBeDefined();
    });

    it("a removed route: its connections are deleted a day later, and kept if it comes back before", async () => {
      const revoked: string[] = [];
      upstream.on("/revoke", ({ form }) => {
        revoked.push(form.get("token") ?? "");
        return { body: {} };
      });
      const aDayOn = () =>
        stack.query("update orphaned_upstream set orphaned_at = orphaned_at - interval '25 hours'");
      expect(await stack.upstreamTokens.disconnectOrphans()).toBe(0);
      await stack.reconfigure(
        "  - {id: other, from: https://other.test, to: http://127.0.0.1:1, mcp: {server: {}}}",
      );
      expect(await stack.upstreamTokens.disconnectOrphans()).toBe(0);
      await stack.reconfigure(route());
      await aDayOn();
      expect(await stack.upstreamTokens.disconnectOrphans()).toBe(0);
      await stack.reconfigure(
        "  - {id: other, from: https://other.test, to: http://127.0.0.1:1, mcp: {server: {}}}",
      );
      expect(await stack.upstreamTokens.disconnectOrphans()).toBe(0);
      await aDayOn();
      const token = await stored();
      expect(await stack.upstreamTokens.disconnectOrphans()).toBe(1);
      expect(await stored()).toBeUndefined();
      expect(revoked).toEqual([token?.refreshToken, token?.accessToken]);
    });

    it("a replica that has never seen the route deletes its connections too", async () => {
      await stack.reconfigure(
        "  - {id: other, from: https://other.test, to: http://127.0.0.1:1, mcp: {server: {}}}",
      );
      const newcomer = await stack.replica();
      await newcomer.upstreamTokens.disconnectOrphans();
      await stack.query("update orphaned_upstream set orphaned_at = orphaned_at - interval '25 hours'");
      expect(await newcomer.upstreamTokens.disconnectOrphans()).toBe(1);
      expect(await stored()).toBeUndefined();
    });

    it("reading a connection's state does not count as usage; a call does", async () => {
      await stack.upstreamTokens.connectionState(alice, stack.route());
      expect((await stored())?.lastUsedAt).toBeUndefined();
      await authorization();
      await expect.poll(async () => (await stored())?.lastUsedAt).toBeInstanceOf(Date);
    });
  });
});
