import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { adviceFor } from "../../src/upstream-oauth/operator-advice.ts";
import { legacySession, type ScriptedServer, scriptedServer } from "../upstream-oauth/scripted-server.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type OAuthClientStack, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

const prm = "/.well-known/oauth-protected-resource";
const rfc8414 = "/.well-known/oauth-authorization-server";
const oidc = "/.well-known/openid-configuration";

let upstream: ScriptedUpstream;
let elsewhere: ScriptedServer;
let stack: OAuthClientStack;
beforeEach(async () => {
  upstream = await scriptedUpstream();
  elsewhere = await scriptedServer();
  stack = await startOAuthClient(route());
});
afterEach(async () => {
  await Promise.all([upstream.close(), elsewhere.close(), stack.close()]);
});
const route = (server = "{}") =>
  `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: ${server}}}`;
/** With the user's confirmation of the destination. */
const pressed = async () => {
  const asked = { userId: alice, route: stack.route(), returnTo: "https://mcp.test/done" };
  const first = await stack.upstreamOAuth.begin(asked);
  return !first.ok && first.notice ? stack.upstreamOAuth.begin({ ...asked, shown: first.notice }) : first;
};
const begun = async () => {
  const result = await pressed();
  if (!result.ok) throw new Error(`${result.code}: ${result.message}`);
  return new URL(result.location);
};
const failure = async () => {
  const result = await pressed();
  if (result.ok) throw new Error(`went to ${result.location}`);
  return result;
};
const connect = (extra: Record<string, string> = {}) =>
  stack.connect((location) => upstream.agree(location, extra));

it.each(["authorization_endpoint", "token_endpoint"])(
  "metadata without %s is reported as such",
  async (name) => {
    for (const value of [null, "", 7, "/relative"]) {
      upstream.metadata[name] = value;
      stack.upstreamOAuth.forget(stack.route());
      const { code, message } = await failure();
      expect(code).toBe("metadata_invalid");
      expect(message).toContain(name.replace("_", " ").slice(0, 5));
    }
  },
);

describe("metadata as authorization servers publish it", () => {
  it.each([null, "", 7, false, {}, "none"])("registration_endpoint: %j counts as absent", async (value) => {
    upstream.metadata.registration_endpoint = value;
    expect((await failure()).code).toBe("registration_unavailable");
    upstream.clients.add("by-hand");
    await stack.reconfigure(route("{upstream_oauth2: {client_id: by-hand, client_secret: s}}"));
    await connect();
  });

  it("every optional member may be null, empty or of another type, and a list may be text", async () => {
    Object.assign(upstream.metadata, {
      revocation_endpoint: null,
      introspection_endpoint: "",
      end_session_endpoint: "/logout",
      jwks_uri: null,
      userinfo_endpoint: 0,
      scopes_supported: "offline_access read,write",
      response_types_supported: null,
      grant_types_supported: "authorization_code refresh_token",
      token_endpoint_auth_methods_supported: "client_secret_post",
      token_endpoint_auth_signing_alg_values_supported: null,
      authorization_response_iss_parameter_supported: null,
      client_id_metadata_document_supported: null,
      dpop_signing_alg_values_supported: null,
      ui_locales_supported: null,
      service_documentation: {},
      unheard_of: { deep: [null] },
    });
    upstream.on(`${prm}/mcp`, {
      body: {
        resource: upstream.mcp,
        authorization_servers: upstream.url,
        scopes_supported: "read, write",
        dpop_bound_access_tokens_required: null,
        resource_name: null,
        jwks_uri: "",
        bearer_methods_supported: "header",
      },
    });
    const location = await begun();
    expect(location.searchParams.get("scope")?.split(" ")).toEqual(["read", "write", "offline_access"]);
    expect(upstream.registered[0]?.body.token_endpoint_auth_method).toBe("client_secret_post");
    await connect();
  });

  it.each([null, "", [], {}])(
    "token_endpoint_auth_methods_supported: %j means RFC 8414's default, never none",
    async (value) => {
      upstream.metadata.token_endpoint_auth_methods_supported = value;
      await begun();
      expect(upstream.registered[0]?.body.token_endpoint_auth_method).toBe("client_secret_basic");
    },
  );

  it.each([null, "", "S256", { S256: true }, ["s256"], [["S256"]]])(
    "code_challenge_methods_supported: %j means no PKCE",
    async (value) => {
      upstream.metadata.code_challenge_methods_supported = value;
      expect((await failure()).code).toBe("pkce_not_supported");
    },
  );

  it.each([null, "", ["x"], 7])("a document whose issuer is %j is not metadata", async (issuer) => {
    upstream.metadata.issuer = Array.isArray(issuer) ? [upstream.url] : issuer;
    expect((await failure()).code).toBe("discovery_failed");
  });

  it.each([null, "", "authorization_servers"])(
    "resource metadata with authorization_servers %j leaves the origin as the issuer",
    async (value) => {
      const authorization_servers = value === "authorization_servers" ? { issuer: "x" } : value;
      upstream.on(`${prm}/mcp`, { body: { resource: upstream.mcp, authorization_servers } });
      expect((await begun()).origin).toBe(upstream.url);
    },
  );
});

describe("the location of metadata", () => {
  it("of an issuer with a path only at the root of its host: used if its issuer is the requested one", async () => {
    const issuer = `${elsewhere.url}/tenant/one`;
    upstream.on(`${prm}/mcp`, { body: { resource: upstream.mcp, authorization_servers: [issuer] } });
    const metadata = { ...upstream.metadata, issuer, authorization_endpoint: `${elsewhere.url}/authorize` };
    for (const root of [rfc8414, oidc]) {
      elsewhere.on(root, { body: metadata });
      stack.upstreamOAuth.forget(stack.route());
      expect((await begun()).origin).toBe(elsewhere.url);
      elsewhere.on(root, { body: { ...metadata, issuer: elsewhere.url } });
      stack.upstreamOAuth.forget(stack.route());
      expect(await failure()).toMatchObject({
        code: "issuer_mismatch",
        message: expect.stringContaining(`names the issuer ${elsewhere.url}, not ${issuer}`),
      });
      elsewhere.off(root);
    }
  });

  it.each([301, 302, 303, 307, 308])(
    "behind redirects (%i) within its host, at most three",
    async (status) => {
      const to = (location: string) => ({ status, headers: { location } });
      upstream.on(`${prm}/mcp`, to("/one"));
      upstream.on("/one", to(`${upstream.url}/two`));
      upstream.on("/two", to("./three"));
      upstream.on("/three", { body: { resource: upstream.mcp, authorization_servers: [upstream.url] } });
      upstream.on(rfc8414, to("/moved"));
      upstream.on("/moved", () => ({ body: upstream.metadata }));
      await begun();
      upstream.on("/three", to("/four"));
      upstream.on("/four", { body: {} });
      stack.upstreamOAuth.forget(stack.route());
      upstream.seen.length = 0;
      await begun();
      expect(upstream.paths()).not.toContain("/four");
      const asked = upstream.seen.filter(({ method }) => method === "GET");
      for (const { headers } of asked) expect(headers.authorization).toBeUndefined();
    },
  );

  it("never behind a redirect to another host, or from https to http: the message says so, and does not suggest allowing a private host", async () => {
    for (const path of [rfc8414, oidc])
      upstream.on(path, { status: 302, headers: { location: `${elsewhere.url}/x` } });
    const { code, message } = await failure();
    expect(code).toBe("redirect_not_followed");
    expect(message).toContain(`redirect (302) to ${elsewhere.host}`);
    expect(adviceFor(code, stack.route())).toMatch(/authorization_server_url.*endpoint/s);
    expect(adviceFor(code, stack.route())).not.toContain("allowed_private_hosts");
    expect(elsewhere.seen).toEqual([]);
  });

  it("a registration follows no redirect", async () => {
    upstream.on("/register", { status: 307, headers: { location: "/registered" } });
    upstream.on("/registered", { status: 201, body: { client_id: "x" } });
    expect((await failure()).code).toBe("redirect_not_followed");
    expect(upstream.paths()).not.toContain("/registered");
  });

  it.each([301, 302, 303, 307, 308])(
    "nor do token, refresh and revocation requests, whose bodies contain the credentials (%i)",
    async (status) => {
      // The target of the redirect would work.
      for (const path of ["/token2", "/revoke2"])
        upstream.on(path, {
          body: { access_token: "stolen", token_type: "Bearer", refresh_token: "stolen", expires_in: 3600 },
        });
      const moved = (location: string) => ({ status, headers: { location }, body: "" });
      upstream.metadata.revocation_endpoint = `${upstream.url}/revoke`;
      upstream.on("/revoke", moved("/revoke2"));
      const asked = { userId: alice, route: stack.route(), returnTo: "https://mcp.test/done" };
      const consent = await stack.upstreamOAuth.begin(asked);
      if (!consent.ok) throw new Error(consent.message);
      upstream.tokenAnswers.push(moved("/token2"));
      const finished = await stack.upstreamOAuth.finish({
        params: upstream.agree(consent.location),
        callback: new URL(consent.location).searchParams.get("redirect_uri") ?? "",
        host: "mcp.test",
        userId: alice,
        browserState: consent.state,
      });
      expect(finished).toMatchObject({ ok: false, code: "redirect_not_followed" });

      await connect();
      const caller = { userId: alice, kind: "person" } as const;
      const connection = { userId: alice, routeId: "files", upstream: upstream.mcp };
      const before = await stack.store.upstreamTokens.find(connection);
      upstream.tokenAnswers.push(moved(`${upstream.url}/token2`));
      const later = Date.now() + 2 * 3_600_000;
      expect(await stack.upstreamTokens.find(caller, stack.route(), later)).toMatchObject({
        kind: "unavailable",
      });
      expect(upstream.tokenAnswers).toEqual([]);
      // A misconfigured server has not rejected the token: it is kept.
      const after = await stack.store.upstreamTokens.find(connection);
      expect([after?.accessToken, after?.refreshToken]).toEqual([before?.accessToken, before?.refreshToken]);

      expect(await stack.upstreamTokens.disconnect(alice, stack.route())).toBe(true);
      expect(upstream.paths()).toContain("/revoke");
      expect(upstream.paths()).not.toContain("/token2");
      expect(upstream.paths()).not.toContain("/revoke2");
    },
  );

  it("discovery requests name the protocol revision and the product, and reveal nothing about the deployment", async () => {
    await begun();
    for (const { headers, path } of upstream.seen) {
      expect(headers["user-agent"], path).toMatch(/^envoy-mcp-auth\/[\w.-]+$/);
      if (path !== "/register") expect(headers["mcp-protocol-version"], path).toMatch(/^\d{4}-\d\d-\d\d$/);
    }
  });
});

describe("an issuer other than the one named", () => {
  const theirs = "https://login.vendor.test/Tenant";
  const settings = () => route(`{expected_issuer: "${theirs}"}`);

  it("is an error that names both, and the key that accepts it", async () => {
    upstream.metadata.issuer = theirs;
    expect(await failure()).toMatchObject({
      code: "issuer_mismatch",
      message: expect.stringMatching(
        new RegExp(`names the issuer ${theirs}, not ${upstream.url}: .*expected_issuer`),
      ),
    });
  });

  it("is accepted if the operator expects exactly that: registration and the flow continue, and iss is compared with it", async () => {
    upstream.metadata.issuer = theirs;
    await stack.reconfigure(settings());
    await connect({ iss: theirs });
    const [row] = await stack.query("select issuer from client_registration");
    expect(row).toEqual({ issuer: theirs });
    await expect(connect({ iss: upstream.url })).rejects.toThrow("did not come from");
    await expect(connect({ iss: `${theirs}/` })).rejects.toThrow("did not come from");
  });

  it.each(["https://login.vendor.test/tenant", "https://login.vendor.test/Tenant/", "https://evil.test"])(
    "any other is still an error (%s)",
    async (issuer) => {
      upstream.metadata.issuer = issuer;
      await stack.reconfigure(settings());
      expect(await failure()).toMatchObject({
        code: "issuer_mismatch",
        message: expect.stringContaining(`not ${theirs}`),
      });
    },
  );

  it("credentials are also bound to the token endpoint: a server that claims the issuer with another endpoint gets none", async () => {
    upstream.metadata.issuer = theirs;
    await stack.reconfigure(settings());
    const honest = await begun();
    // The upstream names a server that claims the same issuer.
    elsewhere.on(rfc8414, {
      body: { ...upstream.metadata, token_endpoint: `${elsewhere.url}/token`, issuer: theirs },
    });
    upstream.on(`${prm}/mcp`, { body: { resource: upstream.mcp, authorization_servers: [elsewhere.url] } });
    stack.upstreamOAuth.forget(stack.route());
    const other = await begun();
    for (const name of ["client_id", "redirect_uri"])
      expect(other.searchParams.get(name)).not.toBe(honest.searchParams.get(name));
    // A client of the routes file stays with the first.
    const oauth = "upstream_oauth2: {client_id: by-hand, client_secret: s}";
    upstream.clients.add("by-hand");
    await stack.reconfigure(route(`{expected_issuer: "${theirs}", ${oauth}}`));
    await begun();
    upstream.on(`${prm}/mcp`, { body: { resource: upstream.mcp, authorization_servers: [upstream.url] } });
    stack.upstreamOAuth.forget(stack.route());
    expect((await failure()).code).toBe("issuer_changed");
  });

  it("expected_issuer does not permit an issuer that signs users in here or belongs to another route", async () => {
    upstream.metadata.issuer = "https://id.test";
    await stack.reconfigure(route(`{expected_issuer: "https://id.test"}`));
    expect((await failure()).code).toBe("issuer_of_other_route");
    await stack.reconfigure(
      route(`{expected_issuer: "https://id.test", authorization_server_url: "${upstream.url}"}`),
    );
    await connect({ iss: "https://id.test" });
  });
});

describe("challenges as servers send them", () => {
  const good = { resource: "", authorization_servers: [""], scopes_supported: ["read"] };
  it.each<[string, (url: string) => string | string[]]>([
    ["without quotes", (url) => `Bearer resource_metadata=${url}/my, error=invalid_token`],
    ["in single quotes", (url) => `Bearer realm='it's', resource_metadata='${url}/my'`],
    ["relative", () => 'Bearer resource_metadata="/my"'],
    ["in another case", (url) => `BEARER Resource_Metadata="${url}/my"`],
    [
      "behind another scheme",
      (url) => `Negotiate abc==, Basic realm="a, b", Bearer resource_metadata="${url}/my"`,
    ],
    ["in a header of its own", (url) => ['Basic realm="x"', `Bearer resource_metadata="${url}/my"`]],
    ["without commas", (url) => `Bearer realm="x" scope="a b" resource_metadata="${url}/my"`],
    ["with commas left over", (url) => `Bearer ,, realm="x", , resource_metadata="${url}/my",`],
    ["with needless escapes", (url) => `Bearer resource_metadata="${url.replaceAll("/", "\\/")}\\/my"`],
    ["with escaped quotes", (url) => `Bearer resource_metadata=\\"${url}/my\\", error=\\"x\\"`],
    ["never closed", (url) => `Bearer realm="x", resource_metadata="${url}/my`],
    ["without a scheme", (url) => `resource_metadata="${url}/my"`],
  ])("resource_metadata %s is read", async (_how, header) => {
    upstream.off(`${prm}/mcp`);
    upstream.on("/mcp", () => ({
      status: 401,
      headers: { "www-authenticate": header(upstream.url) as string },
    }));
    upstream.on("/my", {
      body: { ...good, resource: upstream.mcp, authorization_servers: [elsewhere.url] },
    });
    elsewhere.on(rfc8414, { body: { ...upstream.metadata, issuer: elsewhere.url } });
    await begun();
    expect(upstream.paths()).toContain("/my");
    expect(elsewhere.paths()).toContain(rfc8414);
  });

  it.each<[string, () => string, object | undefined]>([
    ["is not there", () => "/gone", undefined],
    ["is not a URL", () => "http://[", undefined],
    ["is on another origin", () => `${elsewhere.url}/my`, undefined],
    ["is of another resource", () => "/my", { resource: "https://other.test/mcp" }],
    ["names no resource", () => "/my", { authorization_servers: ["https://other.test"] }],
  ])(
    "one that %s: the well-known URLs are requested, never the guessed default endpoints",
    async (_what, name, body) => {
      upstream.on("/mcp", () => ({
        status: 401,
        headers: { "www-authenticate": `Bearer resource_metadata="${name()}"` },
      }));
      if (body) upstream.on("/my", { body });
      await begun();
      expect(upstream.paths()).toContain(`${prm}/mcp`);
      expect(stack.log.join()).toContain("using the well-known URLs instead");
      upstream.off(`${prm}/mcp`);
      upstream.off(rfc8414);
      stack.upstreamOAuth.forget(stack.route());
      upstream.seen.length = 0;
      const { code, message } = await failure();
      expect(["discovery_failed", "resource_mismatch"]).toContain(code);
      expect(message).toMatch(/challenge names|describes a different resource/);
      expect(upstream.paths()).not.toContain("/register");
    },
  );
});

describe("a resource above `to`", () => {
  it("is accepted and logged; mcp.server.resource: exact rejects it", async () => {
    upstream.on(`${prm}/mcp`, { body: { resource: upstream.url, authorization_servers: [upstream.url] } });
    expect((await begun()).searchParams.get("resource")).toBe(upstream.url);
    expect(stack.log.join()).toContain("is for a URL above `to`");
    await stack.reconfigure(route("{resource: exact}"));
    stack.upstreamOAuth.forget(stack.route());
    expect(await failure()).toMatchObject({
      code: "resource_mismatch",
      message: expect.stringContaining("resource: exact"),
    });
    for (const resource of [upstream.mcp, `${upstream.mcp}/`]) {
      upstream.on(`${prm}/mcp`, { body: { resource, authorization_servers: [upstream.url] } });
      stack.upstreamOAuth.forget(stack.route());
      expect((await begun()).searchParams.get("resource")).toBe(resource);
    }
  });
});

describe("the meaning of a response to a call without a token", () => {
  const needed = () => stack.upstreamOAuth.needed(stack.route());
  const html = { headers: { "content-type": "text/html" }, body: "<html>" };
  const bearer = { "www-authenticate": 'Bearer error="invalid_request"' };

  it.each<[string, object]>([
    ["404", { status: 404 }],
    ["405", { status: 405 }],
    ["403 without a challenge", { status: 403 }],
    ["429", { status: 429 }],
    ["500", { status: 500 }],
    ["503", { status: 503 }],
    ["a web page", html],
    ["a redirect", { status: 302, headers: { location: "/login" } }],
  ])("%s: unknown, so other URLs are tried; doctor and the admin API report it", async (_what, answer) => {
    upstream.on("/mcp", answer);
    expect(await needed()).toBe(true);
    upstream.off(`${prm}/mcp`);
    // For a server from before resource metadata, the origin decides.
    await stack.close();
    stack = await startOAuthClient(route());
    expect(await needed()).toBe(true);
    upstream.off(rfc8414);
    await stack.close();
    stack = await startOAuthClient(route());
    expect(await needed()).toBe(false);
    expect(stack.log.join()).toContain("does not show whether an upstream needs a token");
    expect(await stack.upstreamOAuth.discover(stack.route(), () => {})).toMatchObject({ ok: false });
    expect(await stack.upstreamOAuth.prepare(stack.route(), stack.routes())).toMatchObject({ ok: false });
  });

  it.each<[string, boolean, object]>([
    ["400 with a Bearer challenge asks for a token", true, { status: 400, headers: bearer }],
    ["403 with one does", true, { status: 403, headers: bearer }],
    ["401 without one does", true, { status: 401 }],
    ["200 does not", false, { body: {} }],
    ["202 does not", false, { status: 202, body: "" }],
    [
      "an event stream does not",
      false,
      { headers: { "content-type": "text/event-stream" }, body: ": x\n\n" },
    ],
    ["400 without a challenge does not: it wants a session first", false, { status: 400, body: {} }],
    ["406 does not", false, { status: 406 }],
    ["415 does not", false, { status: 415 }],
    ["422 does not", false, { status: 422 }],
  ])("%s", async (_what, wanted, answer) => {
    upstream.off(`${prm}/mcp`);
    upstream.on("/mcp", answer);
    expect(await needed()).toBe(wanted);
  });

  const withoutMetadata = () => {
    for (const path of [`${prm}/mcp`, rfc8414]) upstream.off(path);
  };

  it.each([404, 405, 410, 501])(
    "%i to a POST, and a GET opens an event stream: a legacy HTTP+SSE server that needs no token; the stream is ended at once",
    async (posted) => {
      withoutMetadata();
      const ended = Promise.withResolvers<void>();
      legacySession(upstream, "/messages?sessionId=a", { posted, onEnd: ended.resolve });
      expect(await needed()).toBe(false);
      await ended.promise;
      const asked = upstream.seen.filter(({ path }) => path === "/mcp");
      expect(asked.map(({ method }) => method)).toEqual(["POST", "GET"]);
      expect(asked[1]?.headers.accept).toBe("text/event-stream");
      expect(stack.log.join()).not.toContain("does not show whether an upstream needs a token");
      const findings: string[] = [];
      const found = await stack.upstreamOAuth.discover(stack.route(), ({ finding }) =>
        findings.push(finding),
      );
      expect(found).toMatchObject({ ok: true, needed: false });
      expect(findings.join()).toMatch(/is a legacy HTTP\+SSE server.*without a token/);
      expect(await stack.upstreamOAuth.prepare(stack.route(), stack.routes())).toMatchObject({ ok: true });
    },
  );

  it("405 to a POST, and a GET asks for a token: it needs one, and its challenge is used", async () => {
    const asks = { status: 401, headers: { "www-authenticate": `Bearer resource_metadata="/moved"` } };
    upstream.on("/mcp", ({ method }) => (method === "GET" ? asks : { status: 405 }));
    upstream.off(`${prm}/mcp`);
    upstream.on("/moved", { body: { resource: upstream.mcp, authorization_servers: [upstream.url] } });
    expect(await needed()).toBe(true);
    expect(upstream.paths()).toEqual(["/mcp", "/mcp"]);
    await connect();
    expect(await stack.upstreamOAuth.discover(stack.route(), () => {})).toMatchObject({
      ok: true,
      needed: true,
    });
  });

  it.each<[string, object]>([
    ["a web page", html],
    ["JSON", { body: {} }],
    ["405", { status: 405 }],
    ["500", { status: 500 }],
    ["a redirect to another host", { status: 302, headers: { location: "https://elsewhere.test/" } }],
  ])("405 to a POST and %s to a GET stays unknown", async (_what, answer) => {
    withoutMetadata();
    upstream.on("/mcp", ({ method }) => (method === "GET" ? answer : { status: 405 }));
    expect(await needed()).toBe(false);
    expect(stack.log.join()).toContain("is not an MCP endpoint (405)");
    const found = await stack.upstreamOAuth.discover(stack.route(), () => {});
    expect(found).toMatchObject({ ok: false, code: "not_an_mcp_server" });
  });

  it("the stream is found behind a redirect within the host, and at the root if `to` has no path", async () => {
    withoutMetadata();
    const location = `${upstream.mcp}/`;
    upstream.on("/mcp", { status: 307, headers: { location } });
    legacySession(upstream, "messages", { at: "/mcp/", to: "/mcp/messages" });
    expect(await needed()).toBe(false);
    const findings: string[] = [];
    const step = ({ finding }: { finding: string }) => findings.push(finding);
    expect(await stack.upstreamOAuth.discover(stack.route(), step)).toMatchObject({ ok: true });
    expect(findings.join()).toContain(`post to ${upstream.mcp}/messages, but redirects to ${location} first`);
    upstream.off("/mcp");
    legacySession(upstream, "/messages", { at: "/" });
    const bare = `  - {id: bare, from: https://mcp.test, to: "${upstream.url}", mcp: {server: {}}}`;
    await stack.reconfigure(bare);
    expect(await stack.upstreamOAuth.needed(stack.route("bare"))).toBe(false);
    expect(await stack.upstreamOAuth.discover(stack.route("bare"), () => {})).toMatchObject({ ok: true });
  });
});
