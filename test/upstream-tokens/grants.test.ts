import { generateKeyPairSync } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  calculateJwkThumbprint,
  createLocalJWKSet,
  decodeProtectedHeader,
  EmbeddedJWK,
  jwtVerify,
  UnsecuredJWT,
} from "jose";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { SignInSession } from "../../src/store/sign-in-sessions.ts";
import type { UpstreamOAuthDeps } from "../../src/upstream-oauth/upstream-oauth.ts";
import type { TokenCaller } from "../../src/upstream-tokens/upstream-tokens.ts";
import { scraped } from "../support/scraped.ts";
import { type Seen, scriptedServer } from "../upstream-oauth/scripted-server.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type OAuthClientStack, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

const caller: TokenCaller = { userId: alice, kind: "person", externalToken: "the-te" };
const tokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange";
const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer";

const workload = join(tmpdir(), `workload-${process.pid}.jwt`);
const assertion = {
  access_token: "the-assertion",
  token_type: "N_A",
  issued_token_type: "urn:ietf:params:oauth:token-type:id-jag",
};

describe("grants without consent", () => {
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  let refreshSignIn: NonNullable<UpstreamOAuthDeps["refreshSignIn"]>;
  beforeEach(async () => {
    upstream = await scriptedUpstream();
    upstream.clients.add("svc");
    refreshSignIn = async () => "sign_in_again";
    stack = await startOAuthClient(route("none"), { refreshSignIn: (old) => refreshSignIn(old) });
  });
  afterEach(async () => {
    await Promise.all([upstream.close(), stack.close()]);
  });
  const route = (auth: string) =>
    `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {upstream_auth: ${auth}}}}`;
  const find = (who = caller, now?: number) => stack.upstreamTokens.find(who, stack.route(), now);
  const tokenRequests = () => upstream.seen.filter(({ path }) => path === "/token");
  /** Metrics of token requests and their outcomes. */
  const counted = async () => ({
    ...(await scraped(stack.metrics, "upstream_token_refreshes_total")),
    ...(await scraped(stack.metrics, "upstream_oauth_total")),
  });
  async function signedIn(tokens: Partial<SignInSession> = {}) {
    const session: SignInSession = {
      userId: alice,
      providerId: "company",
      subject: "alice",
      groups: [],
      claims: {},
      idToken: "the-id-token",
      accessToken: "the-access-token",
      checkedAt: new Date(),
      ...tokens,
    };
    await stack.store.signInSessions.put(session);
  }

  it("client_credentials: one token for all users, discovered, requested again at expiry", async () => {
    await stack.reconfigure(
      route("{client_credentials: {client_id: svc, client_secret: s, scopes: [a, b]}}"),
    );
    upstream.tokenFields.refresh_token = undefined;
    const first = await find();
    const second = await find({ userId: "service-account/ci", kind: "service_account" });
    expect(first).toMatchObject({ kind: "credential" });
    expect(second).toEqual(first);
    expect(tokenRequests().length).toBe(1);
    expect(Object.fromEntries(tokenRequests()[0]?.form ?? [])).toMatchObject({
      grant_type: "client_credentials",
      scope: "a b",
      resource: upstream.mcp,
    });
    expect(await find(caller, Date.now() + 3_601_000)).not.toEqual(first);
    expect(await counted()).toMatchObject({
      'outcome="obtained"': 2,
      'outcome="refreshed"': 0,
      'step="obtain",outcome="ok"': 2,
    });
    expect((await stack.upstreamTokens.connectionState(alice, stack.route())).state).toBe("connected");
    expect(await stack.upstreamTokens.disconnect(alice, stack.route())).toBe(false);
  });

  it("concurrent first calls send one token request", async () => {
    await stack.reconfigure(route("{client_credentials: {client_id: svc, client_secret: s}}"));
    const all = await Promise.all(Array.from({ length: 10 }, () => find()));
    expect(all.every(({ kind }) => kind === "credential")).toBe(true);
    expect(tokenRequests().length).toBe(1);
  });

  it("private_key_jwt (RFC 7523 section 2.2) is signed with the configured key for the server's issuer", async () => {
    const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    await stack.reconfigure(
      route(`{client_credentials: {client_id: svc, private_key: ${JSON.stringify(pem)}}}`),
    );
    expect(await find()).toMatchObject({ kind: "credential" });
    const assertion = tokenRequests()[0]?.form.get("client_assertion") ?? "";
    const { payload } = await jwtVerify(assertion, publicKey, { audience: upstream.url });
    expect(payload).toMatchObject({ iss: "svc", sub: "svc" });
  });

  it.each(["client_credentials", "token_exchange"])(
    "%s by private_key_jwt without a configured key: the gateway's key signs, with the token endpoint as audience if no issuer is known",
    async (kind) => {
      const token_url = `${upstream.url}/token`;
      await stack.reconfigure(
        route(`{${kind}: {client_id: svc, auth_style: private_key_jwt, token_url: "${token_url}"}}`),
      );
      expect(await find()).toMatchObject({ kind: "credential" });
      const assertion = tokenRequests()[0]?.form.get("client_assertion") ?? "";
      const keys = createLocalJWKSet(stack.keys.jwks("upstream_client"));
      const { payload } = await jwtVerify(assertion, keys, { audience: token_url });
      expect(payload).toMatchObject({ iss: "svc", sub: "svc" });
    },
  );

  it("workload identity (RFC 7523 section 2.1): the platform's token, read each time", async () => {
    await writeFile(workload, "first.jwt.value\n", { mode: 0o600 });
    await stack.reconfigure(
      route(`{client_credentials: {client_id: svc, workload_identity_file: ${workload}, auth_style: none}}`),
    );
    await find();
    await writeFile(workload, "second.jwt.value\n");
    await find(caller, Date.now() + 3_601_000);
    const sent = tokenRequests().map(({ form }) => [form.get("grant_type"), form.get("assertion")]);
    expect(sent).toEqual([
      [jwtBearer, "first.jwt.value"],
      [jwtBearer, "second.jwt.value"],
    ]);
    expect(stack.log.join()).not.toContain("jwt.value");
  });

  const svc = "client_id: svc, client_secret: s";
  const idp = "idp_client_id: us, idp_client_secret: s";
  it.each<[string, string, string, () => string]>([
    [
      "client_credentials by metadata",
      "/token",
      "client_credentials",
      () => `{client_credentials: {${svc}}}`,
    ],
    [
      "client_credentials at a token_url",
      "/token",
      "client_credentials",
      () => `{client_credentials: {${svc}, token_url: "${upstream.url}/token"}}`,
    ],
    [
      "client_credentials by private_key_jwt",
      "/token",
      "client_credentials",
      () => "{client_credentials: {client_id: svc, auth_style: private_key_jwt}}",
    ],
    [
      "a workload's own JWT",
      "/token",
      jwtBearer,
      () => `{client_credentials: {client_id: svc, workload_identity_file: ${workload}, auth_style: none}}`,
    ],
    [
      "token_exchange of the external token",
      "/token",
      tokenExchange,
      () => `{token_exchange: {${svc}, token_url: "${upstream.url}/token"}}`,
    ],
    [
      "token_exchange of the ID token",
      "/token",
      tokenExchange,
      () => `{token_exchange: {${svc}, token_url: "${upstream.url}/token", subject_token: sign_in_id_token}}`,
    ],
    [
      "token_exchange of the provider's access token",
      "/token",
      tokenExchange,
      () =>
        `{token_exchange: {${svc}, token_url: "${upstream.url}/token", subject_token: sign_in_access_token}}`,
    ],
    [
      "id_jag at the company's provider",
      "/idp/token",
      tokenExchange,
      () => `{id_jag: {idp_token_url: "${upstream.url}/idp/token", ${idp}, ${svc}}}`,
    ],
    [
      "id_jag at the upstream's server",
      "/token",
      jwtBearer,
      () => `{id_jag: {idp_token_url: "${upstream.url}/idp/token", ${idp}, ${svc}}}`,
    ],
  ])("no redirect is followed with credentials: %s", async (_kind, endpoint, grantType, auth) => {
    await signedIn();
    await writeFile(workload, "the.workload.jwt", { mode: 0o600 });
    const good = { access_token: "t", token_type: "Bearer" };
    const elsewhere = await scriptedServer({ "/token": { body: good } });
    upstream.on("/idp/token", { body: assertion });
    upstream.on("/moved", { body: good });
    await stack.reconfigure(route(auth()));
    try {
      for (const [index, status] of [301, 302, 303, 307, 308].entries()) {
        const location = index % 2 ? "/moved" : `${elsewhere.url}/token`;
        upstream.on(endpoint, { status, headers: { location }, body: good });
        // After the backoff of the previous failure.
        expect(await find(caller, Date.now() + index * 3_600_000)).toMatchObject({
          kind: "unavailable",
          reason: "redirect_not_followed",
        });
        expect(stack.log.at(-1)).toContain(`${upstream.host} answered with a redirect (${status})`);
        const last = upstream.seen.at(-1);
        expect([last?.path, last?.form.get("grant_type")]).toEqual([endpoint, grantType]);
      }
      expect(elsewhere.seen).toEqual([]);
      expect(upstream.paths()).not.toContain("/moved");
    } finally {
      await elsewhere.close();
    }
  });

  it("token_exchange: exchanges the caller's external token, or the user's sign-in token, for their own token", async () => {
    const exchange = `token_url: "${upstream.url}/token", client_id: svc, client_secret: s, audience: files`;
    await stack.reconfigure(route(`{token_exchange: {${exchange}}}`));
    expect(await find()).toMatchObject({ kind: "credential" });
    expect(Object.fromEntries(tokenRequests()[0]?.form ?? [])).toMatchObject({
      grant_type: tokenExchange,
      subject_token: "the-te",
      subject_token_type: "urn:ietf:params:oauth:token-type:access_token",
      audience: "files",
    });
    const bob: TokenCaller = { userId: "company/bob", kind: "person", externalToken: "bobs-te" };
    expect(await find(bob)).not.toEqual(await find());
    await stack.reconfigure(route(`{token_exchange: {${exchange}, subject_token: sign_in_id_token}}`));
    const carol: TokenCaller = { userId: "company/carol", kind: "person" };
    expect(await find(carol)).toMatchObject({ kind: "missing", reason: "sign_in_token_missing" });
    const needed = { state: "unavailable", signInNeeded: true };
    expect(await stack.upstreamTokens.connectionState("company/carol", stack.route())).toMatchObject(needed);
    await signedIn({ userId: "company/carol" });
    expect(await find(carol)).toMatchObject({ kind: "credential" });
  });

  it("id_jag: exchanges the ID token for an assertion at the sign-in provider, and the assertion for a token, which is revoked in the end", async () => {
    await signedIn();
    upstream.metadata.revocation_endpoint = `${upstream.url}/revoke`;
    upstream.on("/revoke", { body: {} });
    upstream.on("/idp/token", { body: assertion });
    await stack.reconfigure(
      route(
        `{id_jag: {idp_token_url: "${upstream.url}/idp/token", idp_client_id: us, idp_client_secret: s, client_id: svc, client_secret: s}}`,
      ),
    );
    expect(await find()).toMatchObject({ kind: "credential" });
    const atProvider = upstream.seen.find(({ path }) => path === "/idp/token");
    expect(Object.fromEntries(atProvider?.form ?? [])).toMatchObject({
      grant_type: tokenExchange,
      requested_token_type: "urn:ietf:params:oauth:token-type:id-jag",
      subject_token: "the-id-token",
      subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
      audience: upstream.url,
      resource: upstream.mcp,
    });
    expect(Object.fromEntries(tokenRequests()[0]?.form ?? [])).toMatchObject({
      grant_type: jwtBearer,
      assertion: "the-assertion",
    });
    expect(await stack.upstreamTokens.disconnect(alice, stack.route())).toBe(true);
    const revocation = upstream.seen.find(({ path }) => path === "/revoke");
    expect(revocation?.form.get("token")).toMatch(/^access-/);
    expect(revocation?.headers.authorization).toBe(`Basic ${Buffer.from("svc:s").toString("base64")}`);
  });

  it.each(
    [
      "client_credentials: {client_id: svc",
      "id_jag: {idp_token_url: IDP, idp_client_id: us, client_id: svc",
    ].flatMap((auth) => [
      [auth, undefined],
      // The operator names it: it does not have to be in allowed_private_hosts.
      [auth, "upstream_oauth: {timeout: 3s}"],
    ]),
  )(
    "falls back to authorization_server_url where the upstream names no server: %s} (%s)",
    async (auth = "", settings) => {
      await signedIn();
      upstream.on("/idp/token", { body: { access_token: "the-assertion", token_type: "N_A" } });
      const elsewhere = await scriptedUpstream();
      elsewhere.clients.add("svc");
      upstream.off("/.well-known/oauth-protected-resource/mcp");
      upstream.on("/mcp", { status: 401 });
      const kind = auth.replace("IDP", `"${upstream.url}/idp/token"`);
      await stack.reconfigure(
        `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {authorization_server_url: "${elsewhere.url}", upstream_auth: {${kind}}}}}}`,
        settings,
      );
      expect(await find()).toMatchObject({ kind: "credential" });
      expect(elsewhere.tokenRequests).toHaveLength(1);
      expect(tokenRequests()).toEqual([]);
      await elsewhere.close();
    },
  );

  it("naming another authorization server does not get the service's credentials", async () => {
    await stack.reconfigure(route("{client_credentials: {client_id: svc, client_secret: s}}"));
    await find();
    const thief = await scriptedUpstream();
    upstream.on("/.well-known/oauth-protected-resource/mcp", {
      body: { resource: upstream.mcp, authorization_servers: [thief.url] },
    });
    stack.upstreamOAuth.forget(stack.route());
    const found = await find(caller, Date.now() + 3_601_000);
    expect(found).toMatchObject({ kind: "unavailable", reason: "issuer_changed" });
    expect(thief.tokenRequests).toEqual([]);
    await thief.close();
  });

  describe("a sign-in token that has expired", () => {
    const now = () => Math.floor(Date.now() / 1000);
    const jwt = (exp: number) => new UnsecuredJWT({ exp }).encode();
    const idTokenRoute = () =>
      route(
        `{id_jag: {idp_token_url: "${upstream.url}/idp/token", idp_client_id: us, client_id: svc, client_secret: s}}`,
      );
    const exchangeRoute = () =>
      route(
        `{token_exchange: {token_url: "${upstream.url}/token", client_id: svc, subject_token: sign_in_access_token}}`,
      );
    const subjectTokens = () =>
      upstream.seen.map(({ form }) => form.get("subject_token")).filter((token) => token !== null);
    beforeEach(() => {
      upstream.on("/idp/token", { body: assertion });
    });
    const idToken = { yaml: idTokenRoute, expired: () => ({ idToken: jwt(now() - 1) }) };
    const accessToken = { yaml: exchangeRoute, expired: () => ({ accessTokenExpiresAt: now() - 1 }) };
    const accessJwt = { yaml: exchangeRoute, expired: () => ({ accessToken: jwt(now() - 1) }) };
    const cases = [
      ["ID token", idToken],
      ["access token of a known end", accessToken],
      ["access token that is a JWT", accessJwt],
    ] as const;

    it.each(cases)("is refreshed, and the new one is sent: %s", async (_name, { yaml, expired }) => {
      await signedIn({ ...expired(), tokensAt: 1 });
      await stack.reconfigure(yaml());
      const fresh = { idToken: jwt(now() + 300), accessToken: "fresh", accessTokenExpiresAt: now() + 300 };
      const renewed: unknown[] = [];
      refreshSignIn = async ({ userId, tokensAt }) => {
        renewed.push([userId, tokensAt]);
        await signedIn({ ...fresh, tokensAt: 2 });
        return "ok";
      };
      expect(await find()).toMatchObject({ kind: "credential" });
      expect(renewed).toEqual([[alice, 1]]);
      expect([[fresh.idToken], [fresh.accessToken]]).toContainEqual(subjectTokens());
    });

    it.each(cases)("is never sent if it cannot be refreshed: %s", async (_name, { yaml, expired }) => {
      await stack.reconfigure(yaml());
      for (const [outcome, kind] of [
        ["unavailable", "unavailable"],
        ["rejected", "missing"],
        ["sign_in_again", "missing"],
        ["ok", "missing"],
      ] as const) {
        const userId = `company/${outcome}`;
        await signedIn({ userId, ...expired() });
        refreshSignIn = async () => outcome;
        expect((await find({ userId, kind: "person" })).kind).toBe(kind);
      }
      expect(subjectTokens()).toEqual([]);
    });

    it("is not refreshed again if the provider returned no newer one after its expiry", async () => {
      await signedIn({ ...idToken.expired(), tokensAt: Date.now() });
      await stack.reconfigure(idToken.yaml());
      refreshSignIn = () => Promise.reject(new Error("asked again"));
      expect(await find()).toMatchObject({ kind: "missing", reason: "sign_in_token_missing" });
    });
  });

  it("a rejected token request is a 403 for the caller, not a useless challenge", async () => {
    await signedIn();
    upstream.on("/idp/token", { status: 400, body: { error: "access_denied" } });
    const idp = `idp_token_url: "${upstream.url}/idp/token", idp_client_id: us, client_id: svc`;
    await stack.reconfigure(route(`{id_jag: {${idp}}}`));
    expect(await find()).toMatchObject({ kind: "forbidden" });
    expect(await counted()).toMatchObject({
      'outcome="rejected"': 1,
      'step="obtain",outcome="token_request_rejected"': 1,
    });
    expect((await stack.upstreamTokens.connectionState(alice, stack.route())).state).toBe("unavailable");
  });

  it("a token that the upstream rejects is requested again, once", async () => {
    await stack.reconfigure(route("{client_credentials: {client_id: svc, client_secret: s}}"));
    const refuse = async () => {
      const found = await find();
      const version = found.kind === "credential" ? found.version : undefined;
      return stack.upstreamTokens.handleRejection({
        userId: alice,
        routeId: "files",
        version,
        status: 401,
        wwwAuthenticate: "Bearer",
      });
    };
    expect(await refuse()).toMatchObject({ kind: "retry" });
    expect(await refuse()).toMatchObject({ kind: "give_up", status: 502 });
    expect(tokenRequests().length).toBe(2);
  });
});

describe("DPoP-bound tokens", () => {
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeEach(async () => {
    upstream = await scriptedUpstream();
    upstream.on("/.well-known/oauth-protected-resource/mcp", {
      body: {
        resource: upstream.mcp,
        authorization_servers: [upstream.url],
        dpop_bound_access_tokens_required: true,
      },
    });
    upstream.tokenFields.token_type = "DPoP";
    stack = await startOAuthClient(
      `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {}}}`,
    );
  });
  afterEach(async () => {
    await Promise.all([upstream.close(), stack.close()]);
  });
  const proofOf = async (proof: string) => ({
    ...(await jwtVerify<{ nonce?: string }>(proof, EmbeddedJWK, { typ: "dpop+jwt" })).payload,
    thumbprint: await calculateJwkThumbprint(decodeProtectedHeader(proof).jwk ?? { kty: "" }),
  });
  const dpopOf = (seen: Seen | undefined) => proofOf(String(seen?.headers.dpop));

  it("are requested if the upstream requires them, proven in every request, and refreshed with the same key", async () => {
    await stack.connect(upstream.agree);
    const found = await stack.upstreamTokens.find(caller, stack.route());
    if (found.kind !== "credential" || !found.proof) throw new Error("no proof");
    expect(found.headers[0]?.[1]).toMatch(/^DPoP /);
    const [[name, value] = ["", ""]] = await found.proof("POST", `${upstream.mcp}?x=1`);
    const proof = await proofOf(value);
    expect(name).toBe("dpop");
    expect(proof).toMatchObject({ htm: "POST", htu: upstream.mcp, ath: expect.any(String) });
    const atToken = await dpopOf(upstream.seen.find(({ path }) => path === "/token"));
    expect(atToken.thumbprint).toBe(proof.thumbprint);
    expect(await stack.upstreamTokens.find(caller, stack.route(), Date.now() + 3_601_000)).toMatchObject({
      kind: "credential",
    });
    const refreshed = await dpopOf(upstream.seen.findLast(({ path }) => path === "/token"));
    expect(refreshed.thumbprint).toBe(proof.thumbprint);
    expect(refreshed.jti).not.toBe(atToken.jti);
  });

  it("carry the nonce that the token endpoint or the upstream requires", async () => {
    upstream.tokenAnswers.push({
      status: 400,
      body: { error: "use_dpop_nonce" },
      headers: { "dpop-nonce": "nonce-1" },
    });
    const again: Record<string, unknown> = { access_token: "a", token_type: "DPoP", refresh_token: "r" };
    upstream.tokenAnswers.push({ body: again });
    await stack.connect(upstream.agree);
    const second = await dpopOf(upstream.seen.findLast(({ path }) => path === "/token"));
    expect(second.nonce).toBe("nonce-1");
    const found = await stack.upstreamTokens.find(caller, stack.route());
    if (found.kind !== "credential" || !found.proof) throw new Error("no proof");
    const outcome = await stack.upstreamTokens.handleRejection({
      userId: alice,
      routeId: "files",
      version: found.version,
      status: 401,
      wwwAuthenticate: 'DPoP error="use_dpop_nonce"',
      dpopNonce: "nonce-2",
    });
    expect(outcome).toEqual({ kind: "retry", reason: "dpop_nonce" });
    const [[, value] = ["", ""]] = await found.proof("GET", upstream.mcp);
    expect((await proofOf(value)).nonce).toBe("nonce-2");
  });

  it("a bearer token instead is rejected", async () => {
    upstream.tokenFields.token_type = "Bearer";
    await expect(stack.connect(upstream.agree)).rejects.toThrow(/different type/);
  });
});
