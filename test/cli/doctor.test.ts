import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { withStore } from "../../src/cli/command.ts";
import { runDoctor } from "../../src/cli/doctor.ts";
import type { Route } from "../../src/model/route.ts";
import { clientUrls } from "../../src/upstream-oauth/client-metadata.ts";
import { createTestDatabase } from "../support/postgres.ts";
import {
  legacyServer,
  legacySession,
  type Scripted,
  type ScriptedServer,
  scriptedServer,
} from "../upstream-oauth/scripted-server.ts";

let folder: string;
let upstream: ScriptedServer;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "doctor-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));
beforeEach(async () => {
  upstream = await scriptedServer();
  return () => upstream.close();
});

/** Runs the command on a routes file; the upstream's origin shows as UPSTREAM. */
async function doctor(
  server: object = {},
  options: { route?: string; top?: object; env?: Record<string, string>; json?: boolean } = {},
) {
  const file = join(folder, "routes.yaml");
  const config = {
    issuer: "https://auth.test",
    sign_in: { providers: [{ issuer: "https://id.test", client_id: "c" }] },
    upstream_oauth: { allowed_private_hosts: ["127.0.0.1"] },
    policy: [{ allow: { and: [{ accept: true }] } }],
    routes: [
      { id: "files", name: "Files", from: "https://files.test", to: `${upstream.url}/mcp`, mcp: { server } },
    ],
    ...options.top,
  };
  await writeFile(file, JSON.stringify(config), { mode: 0o600 });
  let output = "";
  const write = (text: string) => {
    output += text;
  };
  const route = options.route ?? "files";
  const { env = {}, json } = options;
  const code = await runDoctor({ file, route, env, json, out: write, err: write });
  return {
    code,
    output: output.replaceAll(upstream.url, "UPSTREAM").replaceAll(upstream.host, "UPSTREAM_HOST"),
  };
}
/** The scripted server, by the name that a routes file may use with plain http. */
const tokenUrl = () => `${upstream.url}/token`;
function healthy(changes: Record<string, unknown> = {}) {
  const { url } = upstream;
  upstream.on("/mcp", {
    status: 401,
    headers: { "www-authenticate": `Bearer resource_metadata="${url}/prm"` },
  });
  upstream.on("/prm", {
    body: { resource: `${url}/mcp`, authorization_servers: [url], scopes_supported: ["read", "write"] },
  });
  const body: Record<string, unknown> = {
    issuer: url,
    authorization_endpoint: `${url}/authorize`,
    token_endpoint: `${url}/token`,
    registration_endpoint: `${url}/register`,
    code_challenge_methods_supported: ["S256"],
    ...changes,
  };
  upstream.on("/.well-known/oauth-authorization-server", { body });
  upstream.on("/token", { status: 401, body: { error: "invalid_client" } });
}

describe("doctor", () => {
  it("prints the redirect URI to register if the endpoints are configured", async () => {
    healthy();
    const endpoint = { auth_url: "https://as.test/authorize", token_url: tokenUrl() };
    const { code, output } = await doctor({ upstream_oauth2: { client_id: "our-client", endpoint } });
    expect(code).toBe(0);
    expect(output).toContain("our-client must be registered there");
    expect(output).toContain("redirect URI   https://files.test/.pomerium/mcp/client/oauth/callback\n");
  });

  it("lists the members of an aggregated route with their prefixes, without calling any", async () => {
    const route = (id: string, more: object = {}) => ({
      ...{ id, from: `https://${id}.test`, to: upstream.url, mcp: {} },
      ...more,
    });
    const routes = [
      route("files"),
      route("tickets", { enabled: false }),
      { id: "all", name: "All", from: "https://all.test", mcp: { aggregate: { routes: "all" } } },
    ];
    const { code, output } = await doctor({}, { route: "all", top: { routes } });
    expect(output).toMatchInlineSnapshot(`
      "All
        https://all.test -> other MCP routes

      An aggregated route: the gateway answers for all MCP routes.
        ok    files  names begin with files__
              https://files.test
        off   tickets  names begin with tickets__
              https://tickets.test

      Examine each of them: envoy-mcp-auth doctor ROUTE
      "
    `);
    expect(code).toBe(0);
    const disabled = routes.map((one) => ("to" in one ? { ...one, enabled: false } : one));
    expect((await doctor({}, { route: "all", top: { routes: disabled } })).code).toBe(1);
  });

  it("prints no control characters of others, which terminals obey", async () => {
    healthy();
    const error_description = "\u001b[2Jnot here\u0007";
    upstream.on("/register", { status: 400, body: { error: "invalid_client_metadata", error_description } });
    const name = "Fi\u202eles\u001b]0;";
    const { output } = await doctor(
      {},
      {
        top: {
          routes: [
            { id: "files", name, from: "https://files.test", to: `${upstream.url}/mcp`, mcp: { server: {} } },
          ],
        },
      },
    );
    expect(output).toContain("Fi?les?]0;\n");
    expect(output.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  });

  it("--json prints one document with its steps, and with what to do if one fails", async () => {
    healthy();
    const { code, output } = await doctor({}, { json: true });
    expect(code).toBe(0);
    expect(output.trim()).not.toContain("\n");
    const report = JSON.parse(output);
    expect(report).toMatchObject({
      ...{ route_id: "files", name: "Files", url: "https://files.test", to: ["UPSTREAM/mcp"] },
      ...{ kind: "server", auth: "oauth", enabled: true, usable: true, notes: [] },
      summary: expect.stringMatching(/^Users can connect: /),
    });
    expect(report.steps[0]).toEqual({
      ...{ step: "upstream", ok: true, url: "UPSTREAM/mcp", status: 401 },
      finding: "asks for a token and says where its metadata is",
    });
    expect(report).not.toHaveProperty("error");

    upstream.on("/prm", { status: 500 });
    upstream.on("/.well-known/oauth-authorization-server", { status: 500 });
    const failed = await doctor({}, { json: true });
    expect(failed.code).toBe(1);
    expect(JSON.parse(failed.output)).toMatchObject({
      usable: false,
      error: { code: expect.any(String), message: expect.any(String), what_to_do: expect.any(String) },
    });

    const all = { id: "all", from: "https://all.test", mcp: { aggregate: { routes: "all" } } };
    const file = { id: "files", from: "https://files.test", to: upstream.url, mcp: {} };
    const members = await doctor({}, { json: true, route: "all", top: { routes: [file, all] } });
    expect(JSON.parse(members.output)).toMatchObject({
      usable: true,
      members: [{ route_id: "files", url: "https://files.test", enabled: true, prefix: "files__" }],
    });
  });

  it("says that there is nothing to do if discovery succeeds", async () => {
    healthy();
    const { code, output } = await doctor();
    expect(output).toMatchInlineSnapshot(`
      "Files
        https://files.test -> UPSTREAM/mcp

      Request without a token
        ok    UPSTREAM/mcp  401
              asks for a token and says where its metadata is

      Protected-resource metadata
        ok    UPSTREAM/prm  200
              names the authorization server UPSTREAM

      Authorization server metadata
        ok    UPSTREAM/.well-known/oauth-authorization-server  200
              describes UPSTREAM

      Authorization server capabilities
        ok    UPSTREAM/token
              supports PKCE with S256, does not send \`iss\` in responses, cannot revoke

      Client registration
        ok    UPSTREAM/register
              supports dynamic client registration

      Token endpoint
        ok    UPSTREAM/token  401
              answers

      Users can connect: they are redirected to UPSTREAM, scopes read write. Nothing to do.
      "
    `);
    expect(code).toBe(0);
    expect(upstream.paths()).not.toContain("/register");
  });

  it("finds a route by its URL, and lists the known routes if there is none", async () => {
    healthy();
    expect((await doctor({}, { route: "https://files.test/mcp" })).code).toBe(0);
    const unknown = await doctor({}, { route: "fils" });
    expect(unknown).toEqual({
      code: 1,
      output: expect.stringContaining(
        "there is no route fils in the routes file or the database; known routes: files",
      ),
    });
  });

  it("needs no discovery for an API key: opens a session with it and closes it", async () => {
    const said: unknown[] = [];
    upstream.on("/mcp", ({ method, headers, body }) => {
      said.push([method, headers["x-key"], headers["mcp-session-id"], body && JSON.parse(body).method]);
      return { headers: { "mcp-session-id": "s1" }, body: {} };
    });
    const { code, output } = await doctor({ upstream_auth: { api_key: { header: "x-key", value: "k" } } });
    expect(output).toMatchInlineSnapshot(`
      "Files
        https://files.test -> UPSTREAM/mcp

      upstream_auth is api_key: there is no authorization server to discover.

      Open a session
        ok    UPSTREAM/mcp  200
              opens a session

      The server accepts the credential of the routes file: users can use this route as it is.
      "
    `);
    expect(code).toBe(0);
    expect(said).toEqual([
      ["POST", "k", undefined, "initialize"],
      ["DELETE", "k", "s1", ""],
    ]);
  });

  it.each([
    ["id_jag", () => ({ idp_client_id: "us", idp_token_url: tokenUrl(), client_id: "svc" })],
    ["client_credentials", () => ({ client_id: "svc" })],
  ])(
    "finds the authorization server for %s, and does not promise that it accepts the client",
    async (kind, settings) => {
      healthy();
      const auth = settings();
      const { code, output } = await doctor({ upstream_auth: { [kind]: auth } });
      expect(output).toContain("describes UPSTREAM\n");
      expect(output).toContain("the client id of the routes file: svc\n");
      expect(output).toContain(
        "Users do not have to connect: the gateway requests tokens from UPSTREAM.\nWhether it accepts",
      );
      expect(code).toBe(0);
      upstream.on("/.well-known/oauth-authorization-server", { status: 500 });
      expect((await doctor({ upstream_auth: { [kind]: auth } })).code).toBe(1);
    },
  );

  it.each(["token_exchange", "client_credentials"])(
    "skips discovery for %s with its token_url",
    async (kind) => {
      healthy();
      const auth = { token_url: tokenUrl(), client_id: "svc" };
      const { code, output } = await doctor({ upstream_auth: { [kind]: auth } });
      expect(output).toContain(`upstream_auth is ${kind}, with its token_url: nothing is discovered.\n`);
      expect([code, upstream.paths()]).toEqual([0, ["/mcp", "/token"]]);
      upstream.off("/token");
      const gone = await doctor({ upstream_auth: { [kind]: auth } });
      expect(gone.output).toContain("(token_endpoint_unusable)");
      expect(gone.code).toBe(1);
    },
  );

  const key = { upstream_auth: { api_key: { header: "x-key", value: "k" } } };
  const headers = { upstream_auth: { headers: { "x-key": "k" } } };
  const none = { upstream_auth: "none" };
  const endpoint = () => ({ auth_url: "https://as.test/authorize", token_url: tokenUrl() });
  const client = { client_id: "svc" };

  it.each<[string, () => object]>([
    ["none", () => none],
    ["api_key", () => key],
    ["headers", () => headers],
    ["oauth", () => ({})],
    ["endpoint", () => ({ upstream_oauth2: { ...client, endpoint: endpoint() } })],
    ["client_id", () => ({ upstream_oauth2: client })],
    ["client_credentials", () => ({ upstream_auth: { client_credentials: client } })],
    ["token_url", () => ({ upstream_auth: { client_credentials: { ...client, token_url: tokenUrl() } } })],
    ["token_exchange", () => ({ upstream_auth: { token_exchange: { ...client, token_url: tokenUrl() } } })],
    [
      "id_jag",
      () => ({ upstream_auth: { id_jag: { ...client, idp_client_id: "us", idp_token_url: tokenUrl() } } }),
    ],
  ])("opens the stream of a legacy server, and looks where its endpoint leads: %s", async (_kind, server) => {
    healthy();
    if (_kind === "oauth") upstream.off("/.well-known/oauth-authorization-server");
    legacySession(upstream, "/messages?sessionId=secret");
    const well = await doctor(server());
    expect(well.output).toContain(
      "opens the stream of a legacy HTTP+SSE server, which has clients post to UPSTREAM/messages\n",
    );
    expect(well.code, well.output).toBe(0);
    expect(well.output).not.toContain("secret");
    for (const place of ["https://elsewhere.test/messages", "//elsewhere.test/", "mailto:a@b.test"]) {
      upstream.on("/mcp", legacyServer(place));
      const { code, output } = await doctor(server());
      expect(code).toBe(1);
      expect(output).toContain("(upstream_endpoint_elsewhere)");
      expect(output).toContain("Configure the server to announce its endpoint");
    }
  });

  it("opens a session with a legacy server: posts to the endpoint of the stream and reads the answer there", async () => {
    const posted: unknown[] = [];
    legacySession(upstream, "https://files.test/messages?sessionId=secret", {
      to: "/mcp/messages",
      post: (say, seen) => {
        const { id, method } = JSON.parse(seen.body);
        posted.push([seen.method, seen.query.get("sessionId"), seen.headers["x-key"], method]);
        say({ jsonrpc: "2.0", method: "notifications/message" });
        say({ jsonrpc: "2.0", id: id + 1, result: {} });
        say({ jsonrpc: "2.0", id, result: {} });
        return { status: 202 };
      },
    });
    const { code, output } = await doctor(key);
    expect(output).toMatchInlineSnapshot(`
      "Files
        https://files.test -> UPSTREAM/mcp

      upstream_auth is api_key: there is no authorization server to discover.

      Open a session
        ok    UPSTREAM/mcp  200
              opens the stream of a legacy HTTP+SSE server, which has clients post to https://files.test/messages
        ok    https://files.test/messages  202
              opens a session: the answer to \`initialize\` comes over the stream

      The server accepts the credential of the routes file: users can use this route as it is.
      "
    `);
    expect(code).toBe(0);
    expect(posted).toEqual([["POST", "secret", "k", "initialize"]]);
  });

  it.each<[string, Scripted | undefined, string, string]>([
    ["404", { status: 404 }, "does not accept messages (404)", "not_an_mcp_server"],
    ["405", { status: 405 }, "does not accept messages (405)", "not_an_mcp_server"],
    ["a page", { headers: { "content-type": "text/html" }, body: "hello" }, "web page", "not_an_mcp_server"],
    ["500", { status: 500 }, "fails (500)", "server_error"],
    ["429", { status: 429 }, "limits the rate of requests (429)", "rate_limited"],
    [
      "a redirect",
      { status: 307, headers: { location: "https://elsewhere.test/" } },
      "redirects to elsewhere.test (307)",
      "redirect_not_followed",
    ],
    ["nothing", undefined, "did not answer within 1000 ms", "unreachable"],
    // Like a Streamable HTTP server that is as slow.
    ["202 and no more", { status: 202 }, "did not answer `initialize` within 1 s", "unreachable"],
  ])(
    "if a legacy server's message endpoint answers %s, reports that, and never that there is nothing to do",
    async (_kind, answer, finding, fault) => {
      legacySession(upstream, "/messages", { post: () => answer });
      // Timeouts are tested once.
      for (const server of finding.includes("within") ? [none] : [none, key, {}]) {
        const top = { upstream_oauth: { allowed_private_hosts: ["127.0.0.1"], timeout: "1s" } };
        const { code, output } = await doctor(server, { top });
        expect(output.replace(/\s+/g, " ")).toContain(finding);
        expect(output).toContain("FAIL  UPSTREAM/messages");
        expect(output).toContain(`(${fault})`);
        expect(output).not.toContain("Nothing to do");
        expect(code).toBe(1);
      }
    },
  );

  it("reports a missing response if a legacy server accepts the message and ends its stream", async () => {
    legacySession(upstream, "/messages", {
      post: (_say, _seen, end) => {
        end();
        return { status: 202 };
      },
    });
    const { code, output } = await doctor(none);
    expect(output).toContain("accepts `initialize`, but sends no response over the stream");
    expect([code, output.includes("(not_an_mcp_server)")]).toEqual([1, true]);
  });

  it.each<[string, Scripted | undefined, string]>([
    ["401", { status: 401 }, "asks for a token; doctor has none, so no session was opened"],
    ["403", { status: 403 }, "does not accept messages without a token (403)"],
    ["404", { status: 404 }, "does not accept messages without a token (404)"],
    ["a page", { headers: { "content-type": "text/html" }, body: "hello" }, "without a token (200)"],
    ["500", { status: 500 }, "does not accept messages without a token (500)"],
    [
      "a redirect",
      { status: 302, headers: { location: "https://elsewhere.test/login" } },
      "does not accept messages without a token: ",
    ],
    ["nothing", undefined, "did not answer within 1000 ms"],
    ["202 and no more", { status: 202 }, "doctor has no token, so the response was not waited for"],
  ])(
    "if a token is required, %s from a legacy server's message endpoint without one is not a fault",
    async (_kind, answer, finding) => {
      healthy();
      const body = { resource: `${upstream.url}/mcp`, authorization_servers: [upstream.url] };
      upstream.on("/.well-known/oauth-protected-resource/mcp", { body });
      let isPosted = false;
      legacySession(upstream, "/messages", {
        post: (say) => {
          isPosted = true;
          say({ jsonrpc: "2.0", id: 1, error: { code: -32001, message: "unauthorized" } });
          return answer;
        },
      });
      const timeout = answer === undefined ? "1s" : "60s";
      const top = { upstream_oauth: { allowed_private_hosts: ["127.0.0.1"], timeout } };
      const { code, output } = await doctor({}, { top });
      expect(output.replace(/\s+/g, " ")).toContain(finding);
      expect(output).toContain("ok    UPSTREAM/messages");
      expect(output).toContain("Users can connect");
      expect(output).not.toMatch(/FAIL|owner/);
      expect([code, isPosted]).toEqual([0, true]);
    },
  );

  it("if a legacy server's message endpoint requires a token or a credential, says who lacks it", async () => {
    legacySession(upstream, "/messages", { post: () => ({ status: 401 }) });
    expect((await doctor(none)).output).toContain("FAIL  UPSTREAM/messages  401");
    expect((await doctor(none)).output).toContain("(credential_missing)");
    expect((await doctor(key)).output).toContain("(credential_rejected)");
    // A user who connects has one.
    healthy();
    legacySession(upstream, "/messages", { post: () => ({ status: 401 }) });
    const { code, output } = await doctor();
    expect(output).toContain(
      "ok    UPSTREAM/messages  401\n        asks for a token; doctor has none, so no session was opened",
    );
    expect(code).toBe(0);
  });

  it("reports a legacy server that does not accept initialize", async () => {
    const error = { code: -32602, message: "Buy now" };
    legacySession(upstream, "/messages", {
      post: (say) => {
        say({ jsonrpc: "2.0", id: 1, error });
        return { status: 202 };
      },
    });
    const { output } = await doctor(none);
    expect(output.replace(/\s+/g, " ")).toContain(
      "does not accept initialize (JSON-RPC error -32602): ask the server's owner why",
    );
    expect(output).not.toContain("Buy");
  });

  it("reports a legacy server that names no endpoint or rejects the stream", async () => {
    const settings = { allowed_private_hosts: ["127.0.0.1"], timeout: "1s" };
    const ended = Promise.withResolvers<void>();
    upstream.on("/mcp", legacyServer(undefined, { onEnd: ended.resolve }));
    const silent = await doctor(none, { top: { upstream_oauth: settings } });
    await ended.promise;
    expect(silent.output).toContain("sends no `endpoint` event within 1 s");
    expect(silent.output).toContain("(unreachable)");
    expect([silent.code, silent.output.includes("upstream_auth: none")]).toEqual([1, false]);
    upstream.on("/mcp", ({ method }) => (method === "GET" ? undefined : { status: 405 }));
    const hanging = await doctor({}, { top: { upstream_oauth: settings } });
    expect(hanging.output).toContain(
      "(405): it is unknown whether it needs a token; a GET for an event stream: UPSTREAM_HOST did not answer within 1000 ms",
    );
    const long = `${": x\n".repeat(2000)}\n`;
    const stream = { headers: { "content-type": "text/event-stream" }, body: long, onEnd: () => {} };
    upstream.on("/mcp", ({ method }) => (method === "GET" ? stream : { status: 405 }));
    const bounded = await doctor(none, {
      top: { upstream_oauth: { ...settings, max_response_bytes: 4096 } },
    });
    expect(bounded.output).toContain("no `endpoint` event says in time where to post");
    upstream.on("/mcp", ({ method, headers }) =>
      method === "GET" && headers["x-key"] === "k"
        ? legacyServer("/messages")({ method } as never)
        : { status: method === "GET" ? 401 : 405 },
    );
    upstream.on("/messages", { status: 400 });
    expect((await doctor(key)).output).toContain("does not accept initialize (400)");
    const wrong = { upstream_auth: { api_key: { header: "x-key", value: "other" } } };
    expect((await doctor(wrong)).output).toContain("(credential_rejected)");
    expect((await doctor(none)).output).toContain("(credential_missing)");
  });

  it.each<[string, object]>([
    ["none", none],
    ["headers", headers],
  ])("opens a session with upstream_auth %s, and reports faults of the upstream", async (kind, server) => {
    const said: unknown[] = [];
    upstream.on("/mcp", ({ method, headers }) => {
      said.push([method, headers["x-key"]]);
      return { headers: { "mcp-session-id": "s1" }, body: {} };
    });
    const { code, output } = await doctor(server);
    const sent = kind === "none" ? undefined : "k";
    expect(said).toEqual([
      ["POST", sent],
      ["DELETE", sent],
    ]);
    expect(output).toContain("users can use this route as it is.");
    expect(code).toBe(0);
    const faults = [
      [404, "not_an_mcp_server"],
      [405, "not_an_mcp_server"],
      [503, "server_error"],
      [429, "rate_limited"],
      [401, kind === "none" ? "credential_missing" : "credential_rejected"],
    ] as const;
    for (const [status, fault] of faults) {
      upstream.on("/mcp", { status });
      const failed = await doctor(server);
      expect(failed.output).toContain(`(${fault})`);
      expect(failed.output).not.toContain("upstream_auth: none");
      expect(failed.code).toBe(1);
    }
    // If `to` has no path, the endpoint is at the default path.
    upstream.on("/mcp", { body: {} });
    const route = {
      id: "files",
      name: "Files",
      from: "https://files.test",
      to: upstream.url,
      mcp: { server },
    };
    const bare = await doctor(server, { top: { routes: [route] } });
    expect(bare.output).toContain("ok    UPSTREAM/mcp  200\n");
    expect(bare.code).toBe(0);
    await upstream.close();
    const away = await doctor(server);
    expect([away.code, away.output.includes("(unreachable)")]).toEqual([1, true]);
    upstream = await scriptedServer();
  });

  it("examines stored routes, and reports when the secret of our registration expires", async () => {
    const database = await createTestDatabase();
    const env = { DATABASE_URL: database.url, ENCRYPTION_KEY: randomBytes(32).toString("base64url") };
    try {
      healthy();
      expect((await doctor({}, { env })).code).toBe(0);
      const file = join(folder, "routes.yaml");
      const entry = { from: "https://stored.test", to: `${upstream.url}/mcp`, mcp: { server: {} } };
      await withStore({ file, env, out: () => {}, err: () => {} }, async ({ store, routes }) => {
        const audit = { action: "route.created", routeId: "stored" } as const;
        await store.storedRoutes.create({ id: "stored", place: "stored.test/", entry }, audit);
        const files = routes().byId("files");
        const { redirectUri } = clientUrls(routes(), files as Route, upstream.url);
        await store.clientRegistrations.getOrRegister(upstream.url, redirectUri, async () => ({
          issuer: upstream.url,
          redirectUri,
          clientId: "we",
          clientSecret: "s",
          secretExpiresAt: new Date("2099-05-06T00:00:00Z"),
          authMethod: "client_secret_basic",
          metadata: {},
        }));
        return 0;
      });
      const stored = await doctor({}, { route: "stored", env });
      expect(stored.output).toContain("https://stored.test -> UPSTREAM/mcp\n");
      expect(stored.code).toBe(0);
      const { output: documented } = await doctor({}, { route: "stored", env, json: true });
      expect(JSON.parse(documented)).toMatchObject({
        route_id: "stored",
        url: "https://stored.test",
        usable: true,
      });
      // The file now claims its URL.
      const taken = { id: "taken", from: "https://stored.test", to: upstream.url, mcp: {} };
      const notInForce = await doctor({}, { route: "stored", env, top: { routes: [taken] } });
      expect(notInForce).toEqual({
        code: 1,
        output: expect.stringMatching(
          /^the stored route stored is not in force:\n {2}from: https:\/\/stored.test is already claimed by routes\[0\]\n {4}fix: /,
        ),
      });
      const client = new pg.Client({ connectionString: database.url });
      await client.connect();
      await client.query("update stored_route set version = 7");
      await client.end();
      for (const route of ["stored", "https://stored.test/mcp"])
        expect(await doctor({}, { route, env })).toEqual({
          code: 1,
          output: expect.stringMatching(
            /^the stored route stored is not in force:\n {2}its row was not written/,
          ),
        });
      const { output } = await doctor({}, { env });
      expect(output).toContain("registered there as we, with a secret that expires on 2099-05-06");
      expect(output).toContain("Notes\n  the secret of this gateway's registration expires on 2099-05-06");
    } finally {
      await database.close();
    }
    // An unavailable database is reported and does not stop the examination.
    const away = await doctor({}, { env });
    expect(away.output).toContain("the database cannot be opened");
    expect(away.code).toBe(0);
  });

  it("fault 1: the server publishes no metadata and its default endpoints are a guess", async () => {
    upstream.on("/mcp", { status: 401 });
    const { code, output } = await doctor();
    expect(output).toMatchInlineSnapshot(`
      "Files
        https://files.test -> UPSTREAM/mcp

      Request without a token
        ok    UPSTREAM/mcp  401
              asks for a token, without saying where its metadata is

      Protected-resource metadata
        FAIL  UPSTREAM/.well-known/oauth-protected-resource/mcp  404
              does not exist
        FAIL  UPSTREAM/.well-known/oauth-protected-resource  404
              does not exist

      Authorization server metadata
        FAIL  UPSTREAM/.well-known/oauth-authorization-server  404
              does not exist
        FAIL  UPSTREAM/.well-known/openid-configuration  404
              does not exist

      Default endpoints (2025-03-26)
        ok    UPSTREAM/authorize
              no metadata anywhere: the default endpoints of the 2025-03-26 revision are used

      Authorization server capabilities
        ok    UPSTREAM/token
              unknown: no metadata; S256 is sent regardless

      Client registration
        ok    UPSTREAM/register
              supports dynamic client registration

      Token endpoint
        FAIL  UPSTREAM/token  404
              does not exist (404)

      Users cannot connect: the upstream asks for a token, but publishes no OAuth metadata, and its default endpoints do not exist: it does not seem to use OAuth (discovery_failed)

      What to do
        The server names no authorization server. If it has one, set mcp.server.authorization_server_url
        to its issuer, or mcp.server.upstream_oauth2.endpoint to its authorization and token URLs. If it
        takes a key instead, set mcp.server.upstream_auth to api_key or headers; if it needs no OAuth at
        all, mcp.server.upstream_auth: none.
      "
    `);
    expect(code).toBe(1);
  });

  it("fault 2: the metadata describes another resource", async () => {
    healthy();
    upstream.on("/prm", {
      body: { resource: "https://other.test/mcp", authorization_servers: [upstream.url] },
    });
    const { code, output } = await doctor();
    expect(output).toMatchInlineSnapshot(`
      "Files
        https://files.test -> UPSTREAM/mcp

      Request without a token
        ok    UPSTREAM/mcp  401
              asks for a token and says where its metadata is

      Protected-resource metadata
        FAIL  UPSTREAM/prm  200
              describes a different resource than the route's upstream (UPSTREAM/mcp): https://other.test/mcp
        FAIL  UPSTREAM/.well-known/oauth-protected-resource/mcp  404
              does not exist
        FAIL  UPSTREAM/.well-known/oauth-protected-resource  404
              does not exist

      Users cannot connect: the metadata at UPSTREAM/prm describes a different resource than the route's upstream (UPSTREAM/mcp): the route's \`to\` must be the URL that the server uses for itself (resource_mismatch)

      What to do
        The server's metadata describes a different resource than the route's \`to\`. Set \`to\` to the URL in
        the metadata (currently UPSTREAM/mcp), or ask the server's owner to correct
        \`resource\` in its metadata. If \`resource: exact\` is set, remove it to accept a URL above \`to\`.
      "
    `);
    expect(code).toBe(1);
  });

  it("fault 3: the authorization server's metadata names another issuer", async () => {
    healthy({ issuer: "https://attacker.test" });
    const { code, output } = await doctor();
    expect(output).toMatchInlineSnapshot(`
      "Files
        https://files.test -> UPSTREAM/mcp

      Request without a token
        ok    UPSTREAM/mcp  401
              asks for a token and says where its metadata is

      Protected-resource metadata
        ok    UPSTREAM/prm  200
              names the authorization server UPSTREAM

      Authorization server metadata
        FAIL  UPSTREAM/.well-known/oauth-authorization-server  200
              names the issuer https://attacker.test, not UPSTREAM
        FAIL  UPSTREAM/.well-known/openid-configuration  404
              does not exist

      Users cannot connect: the metadata at UPSTREAM/.well-known/oauth-authorization-server names the issuer https://attacker.test, not UPSTREAM: if the server's owner confirms that issuer, set mcp.server.expected_issuer on the route to exactly that value (issuer_mismatch)

      What to do
        The authorization server's metadata has a different issuer than expected. Ask the server's owner
        which one is correct. If it is the one in the metadata, set mcp.server.expected_issuer to exactly
        that value: it is compared with \`iss\`, and credentials are bound to it and to the token endpoint.
      "
    `);
    expect(code).toBe(1);
  });

  it("fault 4: no PKCE with S256", async () => {
    healthy({ code_challenge_methods_supported: ["plain"] });
    const { code, output } = await doctor();
    expect(output).toMatchInlineSnapshot(`
      "Files
        https://files.test -> UPSTREAM/mcp

      Request without a token
        ok    UPSTREAM/mcp  401
              asks for a token and says where its metadata is

      Protected-resource metadata
        ok    UPSTREAM/prm  200
              names the authorization server UPSTREAM

      Authorization server metadata
        ok    UPSTREAM/.well-known/oauth-authorization-server  200
              describes UPSTREAM

      Users cannot connect: UPSTREAM does not list S256 in code_challenge_methods_supported; if it supports PKCE, set upstream_oauth2.endpoint on the route (pkce_not_supported)

      What to do
        The authorization server does not offer PKCE with S256, which MCP requires. Its owner has to
        enable it; if it is enabled but not advertised, set mcp.server.upstream_oauth2.endpoint and
        client_id.
      "
    `);
    expect(code).toBe(1);
  });

  it("fault 5: the authorization server has no dynamic registration", async () => {
    healthy({ registration_endpoint: undefined });
    const { code, output } = await doctor();
    expect(output).toMatchInlineSnapshot(`
      "Files
        https://files.test -> UPSTREAM/mcp

      Request without a token
        ok    UPSTREAM/mcp  401
              asks for a token and says where its metadata is

      Protected-resource metadata
        ok    UPSTREAM/prm  200
              names the authorization server UPSTREAM

      Authorization server metadata
        ok    UPSTREAM/.well-known/oauth-authorization-server  200
              describes UPSTREAM

      Authorization server capabilities
        ok    UPSTREAM/token
              supports PKCE with S256, does not send \`iss\` in responses, cannot revoke

      Users cannot connect: UPSTREAM does not support dynamic client registration: register a client by hand with redirect URI https://files.test/.pomerium/mcp/client/oauth/callback, then set upstream_oauth2.client_id and client_secret on the route (registration_unavailable)

      What to do
        The authorization server does not support dynamic client registration. Register a client there by
        hand, with the redirect URI given above, and set mcp.server.upstream_oauth2.client_id and
        client_secret.
      "
    `);
    expect(code).toBe(1);
  });

  it("fault 6: the metadata points to a private address", async () => {
    healthy();
    upstream.on("/prm", {
      body: { resource: `${upstream.url}/mcp`, authorization_servers: ["https://10.0.0.7"] },
    });
    const { code, output } = await doctor();
    expect(output).toMatchInlineSnapshot(`
      "Files
        https://files.test -> UPSTREAM/mcp

      Request without a token
        ok    UPSTREAM/mcp  401
              asks for a token and says where its metadata is

      Protected-resource metadata
        ok    UPSTREAM/prm  200
              names the authorization server https://10.0.0.7

      Authorization server metadata
        FAIL  https://10.0.0.7/.well-known/oauth-authorization-server  no answer
              authorization server metadata: blocked the connection to 10.0.0.7: its address is not public (allowed_private_hosts allows it)
        FAIL  https://10.0.0.7/.well-known/openid-configuration  no answer
              authorization server metadata: blocked the connection to 10.0.0.7: its address is not public (allowed_private_hosts allows it)

      Users cannot connect: authorization server metadata: blocked the connection to 10.0.0.7: its address is not public (allowed_private_hosts allows it) (endpoint_not_allowed)

      What to do
        The server's metadata points to an address that is not public https. If the host is yours, add it
        to upstream_oauth.allowed_private_hosts, or name it on the route
        (mcp.server.authorization_server_url), which needs no such entry; otherwise do not connect the
        server.
      "
    `);
    expect(code).toBe(1);
  });

  it("fault 7: the server is unreachable", async () => {
    await upstream.close();
    const { code, output } = await doctor();
    expect(output).toMatchInlineSnapshot(`
      "Files
        https://files.test -> UPSTREAM/mcp

      Request without a token
        FAIL  UPSTREAM/mcp  no answer
              the upstream cannot be probed: UPSTREAM_HOST could not be reached

      Protected-resource metadata
        FAIL  UPSTREAM/.well-known/oauth-protected-resource/mcp  no answer
              not fetched: UPSTREAM_HOST could not be reached
        FAIL  UPSTREAM/.well-known/oauth-protected-resource  no answer
              not fetched: UPSTREAM_HOST could not be reached

      Users cannot connect: the upstream cannot be probed: UPSTREAM_HOST could not be reached (unreachable)

      What to do
        Check that the host resolves and can be reached from here: DNS, firewall, proxy, TLS certificate
        (for a private CA, set tls_custom_ca_file on the route to its file, which both the gateway and
        Envoy must be able to read).
      "
    `);
    expect(code).toBe(1);
    upstream = await scriptedServer();
  });
});
