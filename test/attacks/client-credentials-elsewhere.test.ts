import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { TokenCaller } from "../../src/upstream-tokens/upstream-tokens.ts";
import { type ScriptedServer, scriptedServer } from "../upstream-oauth/scripted-server.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { type OAuthClientStack, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

const person = (userId: string): TokenCaller => ({ userId, kind: "person" });

/** All client credentials that a server received. */
function proofsAt({ seen }: ScriptedServer): string[] {
  return seen.flatMap(({ headers, form }) =>
    [
      headers.authorization,
      ...["client_secret", "client_assertion", "assertion", "subject_token"].map((name) => form.get(name)),
    ].filter((one) => one !== undefined && one !== null),
  );
}

/** A partner's provider signs people in alongside the company's, and one of them calls a server that requires the company's assertions. */
describe("the gateway's client secret at the company's provider", () => {
  let company: ScriptedServer;
  let partner: ScriptedServer;
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeAll(async () => {
    [company, partner, upstream] = await Promise.all([
      scriptedServer(),
      scriptedServer(),
      scriptedUpstream(),
    ]);
    for (const provider of [company, partner]) {
      const metadata = { issuer: provider.url, token_endpoint: `${provider.url}/token` };
      provider.on("/.well-known/openid-configuration", { body: metadata });
      provider.on("/token", { body: { access_token: "an-assertion", token_type: "N_A" } });
    }
    upstream.clients.add("svc");
    stack = await startOAuthClient(route("idp_client_id: gateway, idp_client_secret: company-secret"), {
      providers: `[{issuer: "${company.url}", id: company, client_id: gateway, client_secret: company-secret}, {issuer: "${partner.url}", id: partner, client_id: gateway, client_secret: partner-secret}]`,
    });
    for (const providerId of ["company", "partner"]) {
      const idToken = `id-token-of-${providerId}`;
      const common = { providerId, subject: "p", groups: [], claims: {}, idToken, checkedAt: new Date() };
      await stack.store.signInSessions.put({ ...common, userId: `${providerId}/p` });
    }
  });
  afterAll(async () => {
    await Promise.all([stack?.close(), company.close(), partner.close(), upstream.close()]);
  });
  const route = (idp: string) =>
    `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {upstream_auth: {id_jag: {${idp}, client_id: svc, client_secret: s}}}}}`;

  it("is not sent to the partner's provider when a person of the partner's calls", async () => {
    expect(await stack.upstreamTokens.find(person("partner/p"), stack.route())).toMatchObject({
      kind: "missing",
      reason: "sign_in_token_missing",
    });
    expect(proofsAt(partner)).toEqual([]);
    expect(await stack.upstreamTokens.find(person("company/p"), stack.route())).toMatchObject({
      kind: "credential",
    });
    expect(proofsAt(company)).toContain("id-token-of-company");
  });

  it("requires idp_token_url if it is not clear which provider the client belongs to", async () => {
    const other = "idp_client_id: for-assertions, idp_client_secret: company-secret";
    await expect(stack.reconfigure(route(other))).rejects.toThrow(/for-assertions.*idp_token_url/s);
    await stack.reconfigure(route(`${other}, idp_token_url: "${company.url}/token"`));
  });
});

/** A malicious upstream is the first to name the authorization server of the gateway's client. */
describe("credentials of the routes file, at an upstream that is malicious from the start", () => {
  let honest: ScriptedUpstream;
  let thief: ScriptedUpstream;
  let evil: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeEach(async () => {
    [honest, thief, evil] = await Promise.all([scriptedUpstream(), scriptedUpstream(), scriptedUpstream()]);
    evil.on("/.well-known/oauth-protected-resource/mcp", {
      body: { resource: evil.mcp, authorization_servers: [thief.url] },
    });
    for (const server of [honest, thief]) server.clients.add("svc");
  });
  afterEach(async () => {
    await Promise.all([stack?.close(), honest.close(), thief.close(), evil.close()]);
  });
  const route = (server: string) =>
    `  - {id: files, from: https://mcp.test, to: ${evil.mcp}, mcp: {server: {authorization_server_url: "${honest.url}", ${server}}}}`;

  it.each([
    "upstream_auth: {client_credentials: {client_id: svc, client_secret: s}}",
    "upstream_auth: {client_credentials: {client_id: svc, auth_style: private_key_jwt}}",
  ])("go to no other server than the one that the operator names: %s", async (server) => {
    stack = await startOAuthClient(route(server));
    const found = await stack.upstreamTokens.find(person("company/alice"), stack.route());
    expect(found).toMatchObject({ kind: "unavailable", reason: "issuer_changed" });
    expect(proofsAt(thief)).toEqual([]);
    // Nor is the attacker's server stored as the client's issuer.
    evil.on("/.well-known/oauth-protected-resource/mcp", {
      body: { resource: evil.mcp, authorization_servers: [honest.url] },
    });
    const other = await stack.replica();
    const again = await other.upstreamTokens.find(person("company/alice"), stack.route());
    expect(again).toMatchObject({ kind: "credential" });
  });

  it("nor by way of a person who connects", async () => {
    stack = await startOAuthClient(route("upstream_oauth2: {client_id: svc, client_secret: s}"));
    await expect(stack.connect(thief.agree)).rejects.toThrow(
      /authorization_server_url.*its credentials are not sent/,
    );
    expect(proofsAt(thief)).toEqual([]);
  });
});

/** Such a server may ignore `resource`: its token for a person would go to the upstream that named it. */
describe("an upstream without consent names another route's authorization server", () => {
  let honest: ScriptedUpstream;
  let evil: ScriptedUpstream;
  /** The evil server's address by another name: another site than the honest one's. */
  let evilMcp: string;
  let stack: OAuthClientStack;
  beforeEach(async () => {
    [honest, evil] = await Promise.all([scriptedUpstream(), scriptedUpstream()]);
    evilMcp = evil.mcp.replace("127.0.0.1", "localhost");
    evil.on("/.well-known/oauth-protected-resource/mcp", {
      body: { resource: evilMcp, authorization_servers: [honest.url] },
    });
    honest.clients.add("svc");
    honest.on("/idp", { body: { access_token: "the-assertion", token_type: "N_A" } });
  });
  afterEach(async () => {
    await Promise.all([stack?.close(), honest.close(), evil.close()]);
  });
  const settings = "upstream_oauth: {allowed_private_hosts: [127.0.0.1, localhost]}";
  const grants = {
    client_credentials: "{client_credentials: {client_id: svc, client_secret: s}}",
    id_jag: `{id_jag: {idp_token_url: "IDP", idp_client_id: us, client_id: svc, client_secret: s}}`,
  };
  const auth = (kind: keyof typeof grants) => grants[kind].replace("IDP", `${honest.url}/idp`);
  const route = (id: string, to: string, server: string) =>
    `  - {id: ${id}, from: https://mcp.test/${id}, to: "${to}", mcp: {server: {${server}}}}\n`;
  const ask = async () => {
    await stack.store.signInSessions.put({
      userId: "company/alice",
      providerId: "company",
      subject: "alice",
      groups: [],
      claims: {},
      idToken: "the-id-token",
      checkedAt: new Date(),
    });
    return stack.upstreamTokens.find(person("company/alice"), stack.route("evil"));
  };

  it.each([
    ["client_credentials", "oauth"],
    ["id_jag", "oauth"],
    ["client_credentials", "client_credentials"],
  ] as const)("%s: no token is requested there, if it belongs to a route with %s", async (kind, others) => {
    const other = others === "oauth" ? "" : `upstream_auth: ${auth(others)}`;
    stack = await startOAuthClient(
      route("evil", evilMcp, `upstream_auth: ${auth(kind)}`) + route("honest", honest.mcp, other),
      { settings },
    );
    expect(await ask()).toMatchObject({ kind: "unavailable", reason: "issuer_of_other_route" });
    expect(proofsAt(honest)).toEqual([]);
  });

  it("a person who would connect is not sent there, where a route without consent has it", async () => {
    stack = await startOAuthClient(
      route("files", evilMcp, "") + route("honest", honest.mcp, `upstream_auth: ${auth("id_jag")}`),
      { settings },
    );
    await expect(stack.connect(honest.agree)).rejects.toThrow(/already serves another route/);
    expect(honest.registered).toEqual([]);
  });

  it("people connected at its own server are not redirected to another server's page from there, either", async () => {
    const own = await scriptedUpstream();
    try {
      evil.on("/.well-known/oauth-protected-resource/mcp", {
        body: { resource: evilMcp, authorization_servers: [own.url] },
      });
      stack = await startOAuthClient(route("files", evilMcp, "") + route("honest", honest.mcp, ""), {
        settings,
      });
      await stack.connect(own.agree);
      own.metadata.authorization_endpoint = `${honest.url}/authorize`;
      stack.upstreamOAuth.forget(stack.route());
      await expect(stack.connect(own.agree)).rejects.toThrow(/already serves another route/);
    } finally {
      await own.close();
    }
  });

  it("a server that the operator names may be used by both", async () => {
    const named = `authorization_server_url: "${honest.url}", upstream_auth: ${auth("client_credentials")}`;
    stack = await startOAuthClient(route("evil", evilMcp, named) + route("honest", honest.mcp, ""), {
      settings,
    });
    expect(await ask()).toMatchObject({ kind: "credential" });
  });
});
