import { createHash, randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { type LoopbackFetch, loopbackFetch } from "../../dev/demo/loopback-fetch.ts";
import type { StackConfig } from "../../dev/demo/stack-config.ts";
import { type E2e, startE2e } from "../support/e2e.ts";
import { type HttpBrowser, httpBrowser, type Page } from "../support/http-browser.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { type RawAnswer, throughEnvoy } from "../support/through-envoy.ts";
import { type ScriptedServer, scriptedServer } from "../upstream-oauth/scripted-server.ts";
import { onLoopback } from "./start-catalog.ts";

/** Ten public reports about comparable systems, selected before the first one was tried. */
describe("problems reported by users of comparable systems", () => {
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  let stack: E2e;
  let far: FarHosts;
  let fetch: typeof globalThis.fetch;
  let browser: HttpBrowser;
  const near: Record<string, ScriptedServer> = {};
  const upstreams: Record<string, Upstream> = {};
  const callback = "https://claude.ai/api/mcp/auth_callback";
  const claude = "https://claude.ai/oauth/mcp-oauth-client-metadata";
  const route = (id: string) => `https://${id}.clients.test/mcp`;

  beforeAll(async () => {
    far = await farHosts();
    for (const id of ["listed", "unlisted", "flaky", "brief", "revoked"]) near[id] = await scriptedServer();
    const originOf = (id: string, host = "localhost") =>
      `http://${host}:${new URL(near[id]?.url ?? "").port}`;
    upstreams.listed = upstream(originOf("listed"), originOf("listed"), (path, answer) =>
      near.listed?.on(path, answer),
    );
    const alone = originOf("unlisted", "127.0.0.1");
    upstreams.unlisted = upstream(alone, alone, (path, answer) => near.unlisted?.on(path, answer));
    upstreams.brief = upstream(originOf("brief"), "", (path, answer) => near.brief?.on(path, answer));
    upstreams.revoked = upstream(originOf("revoked"), "", (path, answer) => near.revoked?.on(path, answer));
    upstreams.access = upstream("https://access.upstreams.test", "https://access.upstreams.test", far.on);
    upstreams.gws = upstream(
      "https://gws.upstreams.test:443",
      "https://gws.upstreams.test:443",
      (path, answer) => far.on(path.replace(":443", ""), answer),
    );
    far.on(claude, () => ({
      body: {
        client_id: claude,
        client_name: "Claude",
        redirect_uris: [callback, "https://claude.com/api/mcp/auth_callback"],
      },
    }));
    const folder = await mkdtemp(join(tmpdir(), "public-reports-"));
    database = await createTestDatabase();
    const hosts = new Set([
      "claude.ai",
      "access.upstreams.test",
      "login.upstreams.test",
      "gws.upstreams.test",
    ]);
    stack = await startE2e({
      folder,
      names: ["*.clients.test", "*.upstreams.test", "claude.ai", "team.cloudflareaccess.test"],
      env: {
        NODE_OPTIONS: `--import ${join(import.meta.dirname, "stand-in-names.ts")}`,
        NODE_EXTRA_CA_CERTS: join(folder, "ca.pem"),
        CATALOG_PORT: String(far.port),
        DATABASE_URL: database.url,
      },
      config: (config) => {
        const open = String(config.routes[1]?.to);
        const server = (id: string, to: string, settings: object = {}) => ({
          id,
          from: route(id),
          to,
          mcp: { server: settings },
        });
        const none = { upstream_auth: "none" };
        return {
          ...config,
          upstream_oauth: { allowed_private_hosts: ["localhost"] },
          routes: [
            { ...server("leaving", open, none), policy: { allow: { or: [{ email: "alice@example.com" }] } } },
            server("open", open, none),
            server("access", "https://access.upstreams.test/mcp"),
            server("login", "https://login.upstreams.test/mcp"),
            server("listed", `${originOf("listed")}/mcp`),
            server("unlisted", `${originOf("unlisted", "127.0.0.1")}/mcp`),
            server("gws", "https://gws.upstreams.test:443/mcp"),
            server("flaky", `${originOf("flaky")}/mcp`),
            server("brief", `${originOf("brief")}/mcp`),
            server("revoked", `${originOf("revoked")}/mcp`),
          ],
        };
      },
      bootstrap: (yaml) => onLoopback(yaml, hosts, far.port),
    });
    far.secure({
      key: readFileSync(stack.ca.files.key, "utf8"),
      cert: readFileSync(stack.ca.files.certificate, "utf8"),
    });
    far.reach = loopbackFetch(stack.ca.ca, far.port);
    fetch = (input, init) => {
      const { hostname } = new URL(input instanceof Request ? input.url : input);
      return (hosts.has(hostname) ? (far.reach as LoopbackFetch).fetch : stack.fetch)(input, init);
    };
    browser = newBrowser();
  });
  afterAll(async () => {
    await stack?.close();
    await database?.close();
    await far?.close();
    for (const server of Object.values(near)) await server.close();
  });

  const newBrowser = () => httpBrowser({ fetch, stopAt: (url) => url.pathname === "/api/mcp/auth_callback" });
  const plain = ({ html }: Page) => html.replaceAll(/<style.*?<\/style>|<[^>]+>|\s+/gs, " ");

  /** One request, as a client sends it. */
  function send(
    url: string,
    more: { token?: string; method?: string; body?: unknown; headers?: Record<string, string> } = {},
  ) {
    const { token, method = "POST", body = initialize, headers } = more;
    return throughEnvoy(stack, {
      url,
      method,
      headers: {
        accept: method === "GET" ? "text/event-stream" : "application/json, text/event-stream",
        ...(method !== "GET" && { "content-type": "application/json" }),
        "user-agent": "python-httpx/0.28.1",
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...headers,
      },
      ...(method !== "GET" && { body: JSON.stringify(body) }),
    });
  }
  const json = ({ body }: RawAnswer): Json => JSON.parse(body);

  async function register(metadata: object = {}): Promise<Registered> {
    const answer = await send("https://auth.test/oauth/register", {
      body: {
        client_name: "Claude",
        redirect_uris: [callback],
        token_endpoint_auth_method: "none",
        ...metadata,
      },
    });
    expect([answer.status, answer.body]).toEqual([201, expect.stringContaining("client_id")]);
    return json(answer) as unknown as Registered;
  }
  /** The user's steps in the browser. */
  async function authorize(clientId: string, resource: string, changes: Record<string, string> = {}) {
    const verifier = randomBytes(48).toString("base64url");
    const url = new URL("https://auth.test/oauth/authorize");
    url.search = new URLSearchParams({
      response_type: "code",
      client_id: clientId,
      redirect_uri: callback,
      code_challenge: createHash("sha256").update(verifier).digest("base64url"),
      code_challenge_method: "S256",
      state: "some-state",
      resource,
      ...changes,
    }).toString();
    const page = await browser.agree(await browser.open(url), stack.signIn("alice"));
    return { page, verifier, code: page.url.searchParams.get("code") ?? "" };
  }
  async function token(form: Record<string, string>, headers: Record<string, string> = {}) {
    const answer = await throughEnvoy(stack, {
      url: "https://auth.test/oauth/token",
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
      body: new URLSearchParams(form).toString(),
    });
    return { status: answer.status, ...(JSON.parse(answer.body) as Json) } as Tokens;
  }
  const refresh = (clientId: string, refreshToken: unknown) =>
    token({ grant_type: "refresh_token", refresh_token: String(refreshToken), client_id: clientId });
  /** The whole flow: tokens for `resource`. */
  async function connect(resource: string, clientId: string): Promise<Tokens> {
    const { page, verifier, code } = await authorize(clientId, resource);
    if (!code) throw new Error(`not authorized: ${page.url.href} ${page.status} ${plain(page)}`);
    const tokens = await token({
      grant_type: "authorization_code",
      code,
      redirect_uri: callback,
      client_id: clientId,
      code_verifier: verifier,
      resource,
    });
    if (!tokens.access_token) throw new Error(JSON.stringify(tokens));
    return tokens;
  }
  async function change(edit: (config: StackConfig) => void): Promise<void> {
    const config = parse(await readFile(stack.configFile, "utf8"));
    edit(config);
    await writeFile(stack.configFile, stringify(config));
  }

  // https://github.com/obot-platform/obot/issues/7046: claude.ai went round in circles, with tokens that its server's gateway refused.
  test("a user who lost access, or whose server is gone, gets a clear message, and their client does not loop", async () => {
    const leaving = route("leaving");
    const first = await connect(leaving, claude);
    const second = await refresh(claude, first.refresh_token);
    expect((await send(leaving, { token: second.access_token })).status).toBe(200);

    const setPolicy = (email: string) =>
      change(({ routes }) => {
        for (const one of routes) if (one.id === "leaving") one.policy = { allow: { or: [{ email }] } };
      });
    await setPolicy("bob@example.com");
    await expect.poll(async () => (await send(leaving, { token: second.access_token })).status).toBe(403);
    const third = await refresh(claude, second.refresh_token);
    if (third.status === 200) expect((await send(leaving, { token: third.access_token })).status).toBe(403);
    else expect(third).toMatchObject({ status: 400, error: "invalid_grant" });
    const { page } = await authorize(claude, leaving);
    expect(page.url.searchParams.get("error")).toBe("access_denied");

    await change((config) => {
      config.routes = config.routes.filter(({ id }) => id !== "leaving");
    });
    await expect.poll(async () => (await send(leaving, { token: second.access_token })).status).toBe(404);
    const gone = await refresh(claude, third.refresh_token ?? second.refresh_token);
    expect(gone.status).toBe(400);
    expect(["invalid_grant", "invalid_target"]).toContain(gone.error);
  });

  // https://github.com/NousResearch/hermes-agent/issues/100443: a client without OAuth, servers behind Cloudflare Access.
  test("a client without OAuth is told where to get a token, and works with a static one", async () => {
    for (const method of ["GET", "POST"]) {
      const answer = await send(route("open"), { method });
      expect(answer.status).toBe(401);
      expect(answer.header("www-authenticate")).toContain(
        'resource_metadata="https://open.clients.test/.well-known/oauth-protected-resource/mcp"',
      );
    }
    const printed = await stack.command("service-accounts", "create", "hermes", "--route", "open");
    const tokens = printed.match(/\S{40,}/g) ?? [];
    expect((await send(route("open"), { token: tokens.at(-1) })).status).toBe(200);
  });
  test("a server behind Cloudflare Access is connected by its challenge; a login page instead is reported as such", async () => {
    const { client_id: client } = await register();
    const { access_token: held } = await connect(route("access"), client);
    expect((await send(route("access"), { token: held })).status).toBe(200);

    const login =
      "https://team.cloudflareaccess.test/cdn-cgi/access/login/login.upstreams.test?redirect_url=%2Fmcp";
    far.otherwise("login.upstreams.test", { status: 302, headers: { location: login }, body: "" });
    const { page } = await authorize(client, route("login"));
    const said = page.url.searchParams.get("error_description");
    expect(page.url.searchParams.get("code")).toBe(null);
    expect(said).toMatch(/it redirects, .*redirect_not_followed/);
    expect(await stack.command("doctor", "login").catch((error) => error.stdout)).toContain(
      "team.cloudflareaccess.test",
    );
  });

  // https://github.com/danny-avila/LibreChat/issues/12254: a guard against private addresses stopped refreshes and registrations.
  test("a server on a private address that the operator allows is connected, refreshed and registered again", async () => {
    const { client_id: client } = await register();
    const { access_token: held } = await connect(route("listed"), client);
    const { listed } = upstreams;
    if (!listed) throw new Error();
    const call = async () => (await send(route("listed"), { token: held })).status;
    expect(await call()).toBe(200);
    listed.accessTokens.clear();
    expect([await call(), await call()]).toEqual([401, 200]);
    expect(listed.grants).toEqual(["authorization_code", "refresh_token"]);
    // The server has lost our registration: another client must be registered.
    listed.accessTokens.clear();
    listed.refreshTokens.clear();
    listed.registered.clear();
    expect(await call()).toBe(401);
    const again = await connect(route("listed"), client);
    expect((await send(route("listed"), { token: again.access_token })).status).toBe(200);
    expect(listed.registered.size).toBe(1);
  });
  test("a private address that only the server names is rejected, and the error names the setting that allows it", async () => {
    const { unlisted } = upstreams;
    if (!unlisted) throw new Error();
    const { client_id: client } = await register();
    const { access_token: held } = await connect(route("unlisted"), client);
    expect((await send(route("unlisted"), { token: held })).status).toBe(200);
    // Its authorization server moves to another private host.
    unlisted.settings.issuer = "http://127.0.0.1:9";
    unlisted.accessTokens.clear();
    unlisted.refreshTokens.clear();
    expect((await send(route("unlisted"), { token: held })).status).toBe(401);
    const { page } = await authorize(client, route("unlisted"));
    expect(page.url.searchParams.get("error_description")).toContain("endpoint_not_allowed");
    const said = await stack.command("doctor", "unlisted").catch((error) => error.stdout);
    expect(said).toContain("allowed_private_hosts");
  });

  // https://github.com/doobidoo/mcp-memory-service/issues/358: standard clients always got 401 or 422 at the token endpoint.
  test("form-encoded token requests of every kind of client get OAuth's error codes, and survive a crash", async () => {
    const kinds = [];
    for (const method of ["client_secret_basic", "client_secret_post", "none"]) {
      const known = await register({ token_endpoint_auth_method: method });
      const { verifier, code } = await authorize(known.client_id, route("open"));
      const secret = known.client_secret ?? "";
      const pair = Buffer.from([known.client_id, secret].map(encodeURIComponent).join(":")).toString(
        "base64",
      );
      const headers: Record<string, string> =
        method === "client_secret_basic" ? { authorization: `Basic ${pair}` } : {};
      const own = {
        ...(method !== "client_secret_basic" && { client_id: known.client_id }),
        ...(method === "client_secret_post" && { client_secret: secret }),
      };
      const form = {
        grant_type: "authorization_code",
        code,
        redirect_uri: callback,
        code_verifier: verifier,
      };
      const given = await token({ ...form, ...own }, headers);
      expect([method, given.status]).toEqual([method, 200]);
      kinds.push({ method, own, headers, given });
    }
    for (const [type, body] of [
      ["application/json", JSON.stringify({ grant_type: "authorization_code", code: "x", client_id: "y" })],
      ["application/x-www-form-urlencoded", ""],
      ["application/x-www-form-urlencoded", "grant_type=authorization_code"],
      [
        "application/x-www-form-urlencoded",
        `grant_type=authorization_code&client_id=${kinds[2]?.own.client_id}`,
      ],
      ["application/x-www-form-urlencoded", "grant_type=password&username=a&password=b"],
      ["text/plain", "grant_type=refresh_token"],
      [
        "multipart/form-data; boundary=x",
        '--x\r\ncontent-disposition: form-data; name="grant_type"\r\n\r\nx\r\n--x--\r\n',
      ],
    ] as const) {
      const headers = { "content-type": type };
      const answer = await throughEnvoy(stack, {
        url: "https://auth.test/oauth/token",
        method: "POST",
        headers,
        body,
      });
      expect([type, body, answer.status, answer.header("content-type")]).toEqual([
        type,
        body,
        expect.toSatisfy((status) => status === 400 || status === 401),
        expect.stringContaining("application/json"),
      ]);
      expect(json(answer).error).toMatch(/^invalid_|^unsupported_/);
    }

    const wrong = await send("https://open.clients.test/.well-known/oauth-authorization-server/mcp", {
      token: "123",
    });
    expect([404, 405]).toContain(wrong.status);
    expect(wrong.header("www-authenticate")).toBe(undefined);
    const right = await send(route("open"), { token: "123" });
    expect([right.status, right.header("www-authenticate")]).toEqual([
      401,
      expect.stringContaining("invalid_token"),
    ]);

    stack.sidecar().kill("SIGKILL");
    await stack.sidecar().exited;
    await stack.restartSidecar();
    for (const { method, own, headers, given } of kinds) {
      const held = await send(route("open"), { token: given.access_token });
      expect([method, held.status]).toEqual([method, 200]);
      const form = { grant_type: "refresh_token", refresh_token: given.refresh_token ?? "" };
      const renewed = await token({ ...form, ...own }, headers);
      expect([method, renewed.status]).toEqual([method, 200]);
    }
  });

  // https://github.com/anthropics/claude-ai-mcp/issues/134: claude.ai gave up, though every endpoint answered.
  test("claude.ai's connector finds absolute URLs, registers without a credential and connects", async () => {
    const challenged = await send(route("open"));
    const named = /resource_metadata="([^"]+)"/.exec(challenged.header("www-authenticate") ?? "")?.[1];
    for (const url of [String(named), "https://open.clients.test/.well-known/oauth-protected-resource"]) {
      expect(url).toMatch(/^https:/);
      const found = await send(url, { method: "GET" });
      expect(found.header("content-type")).toContain("application/json");
      expect(json(found)).toMatchObject({
        resource: route("open"),
        authorization_servers: ["https://auth.test"],
      });
    }
    const server = json(
      await send("https://auth.test/.well-known/oauth-authorization-server", { method: "GET" }),
    );
    expect(server).toMatchObject({
      issuer: "https://auth.test",
      authorization_endpoint: "https://auth.test/oauth/authorize",
      token_endpoint: "https://auth.test/oauth/token",
      registration_endpoint: "https://auth.test/oauth/register",
      code_challenge_methods_supported: ["S256"],
    });
    const known = await register({
      token_endpoint_auth_method: "client_secret_post",
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
    });
    const { page, verifier, code } = await authorize(known.client_id, route("open"));
    expect([page.url.searchParams.get("state"), page.url.searchParams.get("iss")]).toEqual([
      "some-state",
      "https://auth.test",
    ]);
    const given = await token({
      grant_type: "authorization_code",
      code,
      redirect_uri: callback,
      client_id: known.client_id,
      client_secret: known.client_secret ?? "",
      code_verifier: verifier,
      resource: route("open"),
    });
    expect(given).toMatchObject({ status: 200, token_type: expect.stringMatching(/^bearer$/i) });
    const headers = { "mcp-protocol-version": "2025-06-18" };
    expect((await send(route("open"), { token: given.access_token, headers })).status).toBe(200);
  });

  // https://github.com/taylorwilsdon/google_workspace_mcp/issues/177: metadata, and the client's URL, with the default port written out.
  test("a server whose metadata contains :443 is connected, also by a client that writes :443", async () => {
    const { gws } = upstreams;
    if (!gws) throw new Error();
    const google = "https://www.googleapis.com/auth";
    gws.settings.scopes = [`${google}/calendar`, `${google}/calendar.events`, `${google}/chat.messages`];
    gws.settings.oneClient = { client_id: "1.apps.googleusercontent.com", client_secret: "GOCSPX-x" };
    const written = "https://gws.clients.test:443/mcp";
    const headers = { host: "gws.clients.test:443" };
    expect((await send(written, { headers })).status).toBe(401);
    const url = "https://gws.clients.test:443/.well-known/oauth-protected-resource/mcp";
    expect((await send(url, { method: "GET", headers })).status).toBe(200);
    const { client_id: client } = await register();
    const { access_token: held } = await connect(written, client);
    expect((await send(written, { token: held, headers })).status).toBe(200);
    expect(gws.asked.at(-1)?.get("scope")?.split(" ")).toEqual(expect.arrayContaining(gws.settings.scopes));
    expect(gws.asked.at(-1)?.get("client_id")).toBe("1.apps.googleusercontent.com");
  });

  // https://github.com/kirodotdev/KiroCrew/issues/12953: for a moment 404, and the client invented OAuth for a server that has none.
  test("a server without OAuth that briefly returns 404 is not treated as one with OAuth, and works immediately afterwards", async () => {
    const { flaky } = near;
    if (!flaky) throw new Error();
    let down = true;
    flaky.on("/mcp", ({ method, body }) => {
      if (down) return { status: 404, body: "Not Found" };
      return method === "POST" ? mcpAnswer(body) : { status: 405, body: "" };
    });
    const { client_id: client } = await register();
    const { page } = await authorize(client, route("flaky"));
    if (!page.url.searchParams.has("code"))
      expect(page.url.searchParams.get("error_description") ?? plain(page)).toMatch(/404|not an MCP server/);
    down = false;
    const { access_token: held } = await connect(route("flaky"), client);
    const call = async (method = "POST") => (await send(route("flaky"), { token: held, method })).status;
    expect(await call()).toBe(200);
    down = true;
    expect([await call("GET"), await call()]).toEqual([404, 404]);
    down = false;
    expect([await call("GET"), await call()]).toEqual([405, 200]);
    expect(flaky.paths().filter((path) => /authorize|register|token/.test(path))).toEqual([]);
  });

  // https://github.com/punkpeye/mcp-remote/issues/181: after 30 seconds neither a refresh nor a new grant helped.
  test("tokens that are valid for thirty seconds are used for thirty seconds; then a refresh, or else a new consent, works within the session", async () => {
    const { brief } = upstreams;
    if (!brief) throw new Error();
    brief.settings.token = { token_type: "bearer", expires_in: 30 };
    brief.settings.challenge =
      'Bearer realm="OAuth", error="invalid_token", error_description="Missing or invalid access token"';
    const client = await stack.client("alice", route("brief"), { fetch });
    const list = async () => (await client.run((mcp) => mcp.listTools())).tools.length;
    for (let call = 0; call < 3; call += 1) expect(await list()).toBe(1);
    expect([client.authorizations(), brief.grants]).toEqual([1, ["authorization_code"]]);
    brief.accessTokens.clear();
    expect(await list()).toBe(1);
    expect([client.authorizations(), brief.grants]).toEqual([1, ["authorization_code", "refresh_token"]]);
    brief.accessTokens.clear();
    brief.refreshTokens.clear();
    expect(await list()).toBe(1);
    expect([client.authorizations(), brief.grants.at(-1)]).toEqual([2, "authorization_code"]);

    // The client's own tokens expire.
    const held = client.tokens();
    const server = json(
      await send("https://auth.test/.well-known/oauth-authorization-server", { method: "GET" }),
    );
    for (const one of [held?.access_token, held?.refresh_token]) {
      const { client_id } = decode(held?.access_token ?? "") as { client_id: string };
      const answer = await stack.fetch(String(server.revocation_endpoint), {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: new URLSearchParams({ token: one ?? "", client_id }).toString(),
      });
      expect(answer.status).toBe(200);
    }
    expect(await list()).toBe(1);
    expect(client.authorizations()).toBe(3);
  });

  // https://github.com/can1357/oh-my-pi/issues/1908: a revoked refresh token, and the old access token was sent indefinitely.
  test("after a refresh is rejected as revoked, the old token is not sent again, and one consent fixes it", async () => {
    const { revoked } = upstreams;
    if (!revoked) throw new Error();
    revoked.settings.token = { expires_in: 1 };
    const { client_id: client } = await register();
    const held = await connect(route("revoked"), client);
    expect((await send(route("revoked"), { token: held.access_token })).status).toBe(200);
    revoked.refreshTokens.clear();
    revoked.settings.refused = {
      error: "invalid_grant",
      error_description: "Refresh token has been revoked",
    };
    const call = () => send(route("revoked"), { token: held.access_token });
    await expect.poll(async () => (await call()).status, { interval: 200 }).toBe(401);
    revoked.accessTokens.clear();
    const before = revoked.presented.length;
    const answer = await call();
    expect([answer.status, answer.header("www-authenticate")]).toEqual([
      401,
      expect.stringContaining("resource_metadata="),
    ]);
    expect(revoked.presented.slice(before)).toEqual([]);
    expect(await refresh(client, held.refresh_token)).toMatchObject({ status: 400, error: "invalid_grant" });

    revoked.settings.token = { expires_in: 3600 };
    const again = await connect(route("revoked"), client);
    for (const one of [again.access_token, (await refresh(client, again.refresh_token)).access_token])
      expect((await send(route("revoked"), { token: one })).status).toBe(200);
    expect(new Set(revoked.presented.slice(before)).size).toBe(1);
  });

  // https://github.com/obot-platform/obot/issues/7501: invalid_request for a refresh token that no longer exists; clients kept it
  // indefinitely.
  test("a refresh token that no longer exists is invalid_grant; overlapping refreshes leave a working pair", async () => {
    const { client_id: client } = await register();
    const first = await connect(route("open"), client);
    const overlapping = await Promise.all([1, 2, 3].map(() => refresh(client, first.refresh_token)));
    for (const { status, access_token } of overlapping)
      expect([status, (await send(route("open"), { token: access_token })).status]).toEqual([200, 200]);
    const next = await refresh(client, overlapping[2]?.refresh_token);
    expect(next.status).toBe(200);

    const { client_id: other } = await register();
    const lost = { status: 400, error: "invalid_grant" };
    for (const one of [randomUUID(), "x", "ä ö", `${next.refresh_token}x`, String(next.access_token)])
      expect([one, await refresh(client, one)]).toEqual([one, expect.objectContaining(lost)]);
    expect(await refresh(other, next.refresh_token)).toMatchObject(lost);
    expect(await refresh(client, first.refresh_token)).toMatchObject(lost);
    expect(await token({ grant_type: "refresh_token", client_id: client })).toMatchObject({
      status: 400,
      error: "invalid_request",
    });
    const again = await connect(route("open"), client);
    expect((await send(route("open"), { token: again.access_token })).status).toBe(200);
  });
});

type Json = Record<string, unknown>;
type Registered = { readonly client_id: string; readonly client_secret?: string };
type Tokens = {
  readonly status: number;
  readonly error?: string;
  readonly access_token?: string;
  readonly refresh_token?: string;
  readonly token_type?: string;
};
interface Asked {
  readonly method: string;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly query: URLSearchParams;
  readonly body: string;
}
interface Answer {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body?: unknown;
}
type On = (path: string, answer: (asked: Asked) => Answer) => void;

const initialize = {
  jsonrpc: "2.0",
  id: 0,
  method: "initialize",
  params: {
    protocolVersion: "2025-06-18",
    capabilities: {},
    clientInfo: { name: "claude-ai", version: "0.1.0" },
  },
};

function decode(jwt: string): Json {
  return JSON.parse(Buffer.from(jwt.split(".")[1] ?? "", "base64url").toString());
}

/** An MCP server with one tool. */
function mcpAnswer(body: string): Answer {
  const { id, method } = JSON.parse(body);
  if (id === undefined) return { status: 202, body: "" };
  const result =
    method === "initialize"
      ? {
          protocolVersion: "2025-06-18",
          capabilities: { tools: {} },
          serverInfo: { name: "scripted", version: "1" },
        }
      : { tools: [{ name: "one", inputSchema: { type: "object" } }] };
  return { body: { jsonrpc: "2.0", id, result } };
}

interface Upstream {
  readonly accessTokens: Set<string>;
  readonly refreshTokens: Set<string>;
  readonly registered: Map<string, string>;
  readonly grants: string[];
  /** Tokens presented to the MCP server, in order. */
  readonly presented: string[];
  readonly asked: URLSearchParams[];
  readonly settings: {
    token?: Json;
    challenge?: string;
    refused?: Json;
    scopes?: string[];
    oneClient?: Json;
    issuer?: string;
  };
}

/**
 * An MCP server at `BASE/mcp` and its authorization server on one origin, which verifies what it issues.
 * @param prm origin to publish resource metadata at; empty: the server has none
 */
function upstream(base: string, prm: string, listen: On): Upstream {
  const codes = new Map<string, URLSearchParams>();
  const one: Upstream = {
    accessTokens: new Set(),
    refreshTokens: new Set(),
    registered: new Map(),
    grants: [],
    presented: [],
    asked: [],
    settings: {},
  };
  const on: On = (path, answer) => listen(base.startsWith("https") ? base + path : path, answer);
  const metadata = `${prm}/.well-known/oauth-protected-resource/mcp`;
  on("/mcp", ({ method, headers, body }) => {
    const given = String(headers.authorization ?? "").replace(/^Bearer /, "");
    if (given) one.presented.push(given);
    const challenge = one.settings.challenge ?? `Bearer${prm && ` resource_metadata="${metadata}"`}`;
    if (!one.accessTokens.has(given))
      return {
        status: 401,
        headers: { "www-authenticate": challenge },
        body: {
          jsonrpc: "2.0",
          error: { code: -32001, message: "Missing or invalid access token" },
          id: null,
        },
      };
    return method === "POST" ? mcpAnswer(body) : { status: 405, body: "" };
  });
  if (prm)
    on("/.well-known/oauth-protected-resource/mcp", () => ({
      body: {
        resource: `${base}/mcp`,
        authorization_servers: [one.settings.issuer ?? base],
        bearer_methods_supported: ["header"],
        scopes_supported: one.settings.scopes,
      },
    }));
  on("/.well-known/oauth-authorization-server", () => ({
    body: {
      issuer: base,
      authorization_endpoint: `${base}/authorize`,
      token_endpoint: `${base}/token`,
      registration_endpoint: `${base}/register`,
      response_types_supported: ["code"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      scopes_supported: one.settings.scopes,
    },
  }));
  on("/register", ({ body }) => {
    const client = {
      client_id: `client-${randomUUID()}`,
      client_secret: randomUUID(),
      ...one.settings.oneClient,
    };
    one.registered.set(String(client.client_id), String(client.client_secret));
    return { status: 201, body: { ...JSON.parse(body), ...client } };
  });
  on("/authorize", ({ query }) => {
    if (!one.registered.has(query.get("client_id") ?? "")) return { status: 400, body: "unknown client" };
    one.asked.push(query);
    const code = randomUUID();
    codes.set(code, query);
    const location = new URL(query.get("redirect_uri") ?? "");
    location.searchParams.set("code", code);
    location.searchParams.set("state", query.get("state") ?? "");
    return { status: 302, headers: { location: location.href }, body: "" };
  });
  on("/token", ({ headers, body }) => {
    const form = new URLSearchParams(body);
    const basic = /^Basic (.*)$/.exec(String(headers.authorization ?? ""))?.[1];
    const [id, secret] = basic
      ? Buffer.from(basic, "base64").toString().split(":").map(decodeURIComponent)
      : [form.get("client_id"), form.get("client_secret")];
    if (one.registered.get(id ?? "") !== secret) return { status: 401, body: { error: "invalid_client" } };
    const grant = form.get("grant_type") ?? "";
    const asked = codes.get(form.get("code") ?? "");
    codes.delete(form.get("code") ?? "");
    const hash = createHash("sha256")
      .update(form.get("code_verifier") ?? "")
      .digest("base64url");
    const isGood =
      grant === "refresh_token"
        ? one.refreshTokens.delete(form.get("refresh_token") ?? "")
        : asked?.get("code_challenge") === hash && asked.get("redirect_uri") === form.get("redirect_uri");
    if (!isGood) return { status: 400, body: one.settings.refused ?? { error: "invalid_grant" } };
    one.grants.push(grant);
    const [access, refresh] = [`access-${randomUUID()}`, `refresh-${randomUUID()}`];
    one.accessTokens.add(access);
    one.refreshTokens.add(refresh);
    const tokens = { access_token: access, token_type: "Bearer", expires_in: 3600, refresh_token: refresh };
    return { body: { ...tokens, ...one.settings.token } };
  });
  return one;
}

/** Other parties' hosts behind one TLS port, by URL. */
interface FarHosts {
  readonly port: number;
  readonly on: On;
  otherwise(host: string, answer: Answer): void;
  secure(tls: { key: string; cert: string }): void;
  reach?: LoopbackFetch;
  close(): Promise<void>;
}
async function farHosts(): Promise<FarHosts> {
  const scripts = new Map<string, (asked: Asked) => Answer>();
  const others = new Map<string, Answer>();
  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? "/", `https://${request.headers.host}`);
    const script = scripts.get(url.origin + url.pathname);
    const asked = {
      method: request.method ?? "",
      headers: request.headers,
      query: url.searchParams,
      body: await text(request),
    };
    const {
      status = 200,
      headers,
      body,
    } = script?.(asked) ?? others.get(url.hostname) ?? { status: 404, body: "not found" };
    response.writeHead(status, {
      ...(typeof body !== "string" && { "content-type": "application/json" }),
      ...headers,
    });
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const hosts: FarHosts = {
    port: (server.address() as AddressInfo).port,
    on: (url, answer) => void scripts.set(url, answer),
    otherwise: (host, answer) => void others.set(host, answer),
    secure: (tls) => server.setSecureContext(tls),
    async close() {
      await hosts.reach?.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return hosts;
}
