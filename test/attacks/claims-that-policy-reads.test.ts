import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { decodeJwt, exportJWK, generateKeyPair, SignJWT } from "jose";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { freePort } from "../../dev/demo/free-port.ts";
import { listen } from "../../dev/demo/listen.ts";
import type { McpClient } from "../../dev/demo/mcp-client.ts";
import { type Sidecar, sidecar } from "../../dev/demo/sidecar.ts";
import type { StackConfig } from "../../dev/demo/stack-config.ts";
import { type E2e, startE2e, type User } from "../support/e2e.ts";
import { pingThroughEnvoy } from "../support/ping-through-envoy.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { throughEnvoy } from "../support/through-envoy.ts";

const hosts = ["vip", "scoped", "staff", "last", "harmless", "partners", "app"].map((name) => `${name}.test`);
const url = (route: string) => `https://${route}.test`;

/** A trusted token issuer on loopback. */
async function startIssuer() {
  const { privateKey, publicKey } = await generateKeyPair("ES256");
  const keys = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: "k", alg: "ES256" }] });
  const listener = await listen((_request, response) =>
    response.writeHead(200, { "content-type": "application/json" }).end(keys),
  );
  return {
    ...listener,
    token: (audience: string, claims: Record<string, unknown> = {}) =>
      new SignJWT({ sub: "mallory", ...claims })
        .setProtectedHeader({ alg: "ES256", kid: "k" })
        .setIssuer(listener.url)
        .setAudience(audience)
        .setJti(randomUUID())
        .setExpirationTime("1h")
        .sign(privateKey),
  };
}

function configured(config: StackConfig, issuer: string): StackConfig {
  const to = config.routes.find(({ id }) => id === "open")?.to;
  const server = (id: string, policy: object[]) => ({
    id,
    from: url(id),
    to,
    mcp: { server: { upstream_auth: "none" } },
    policy,
  });
  const everybody = { allow: { and: [{ accept: true }] } };
  return {
    ...config,
    // The provider is asked again if a client refreshes a second later.
    sign_in: { ...Object(config.sign_in), recheck: "1s" },
    external_tokens: {
      trusted_issuers: [
        {
          id: "urls",
          issuer,
          jwks_uri: `${issuer}/keys`,
          audience: [url("harmless"), url("staff"), url("vip")],
        },
        {
          id: "word",
          issuer,
          jwks_uri: `${issuer}/keys`,
          audience: "gateway",
          routes: ["staff", url("last")],
        },
      ],
    },
    routes: [
      ...config.routes,
      server("vip", [everybody, { deny: { and: [{ "claim/employment": "contractor" }] } }]),
      server("scoped", [
        {
          allow: {
            or: [
              { "claim/scope": "mcp" },
              { "claim/client_id": { not_in: ["x"] } },
              { "claim/employment": "tester" },
            ],
          },
        },
      ]),
      server("staff", [{ allow: { or: [{ domain: "example.com" }, { "claim/email": "ceo@example.com" }] } }]),
      server("last", [{ allow: { and: [{ groups: "team-299" }] } }]),
      server("harmless", [everybody]),
      server("partners", [everybody, { deny: { and: [{ groups: "contractors" }] } }]),
      { id: "app", from: url("app"), to, mcp: { client: {} }, policy: [everybody] },
    ],
  };
}

describe("policy's facts about people", () => {
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  let issuer: Awaited<ReturnType<typeof startIssuer>>;
  let stack: E2e;
  let second: Sidecar;

  beforeAll(async () => {
    database = await createTestDatabase();
    issuer = await startIssuer();
    const env = { DATABASE_URL: database.url };
    const other = { grpc: `127.0.0.1:${await freePort()}`, http: `127.0.0.1:${await freePort()}` };
    stack = await startE2e({
      env,
      names: hosts,
      config: (config) => {
        const { grpc, http } = Object(config.listen);
        const shared = { sidecar: { grpc: [grpc, other.grpc], http: [http, other.http] } };
        return { ...configured(config, issuer.url), envoy: { ...Object(config.envoy), ...shared } };
      },
    });
    second = await sidecar({
      configFile: stack.configFile,
      logFile: join(stack.configFile, "../second.log"),
      env,
      args: [
        ...["--listen-grpc", other.grpc, "--listen-http", other.http],
        ...["--listen-admin", `127.0.0.1:${await freePort()}`],
      ],
    });
  });
  afterAll(async () => {
    await second?.close();
    await stack?.close();
    await issuer?.close();
    await database?.close();
  });

  async function sql(statement: string): Promise<void> {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query(statement).finally(() => client.end());
  }
  const says = (user: User, change: { groups?: readonly string[]; more?: Record<string, unknown> }) =>
    Object.assign(stack.openid.accounts.find(({ login }) => login === user) ?? {}, change);
  const call = async (route: string, token: string) =>
    (await pingThroughEnvoy(stack, url(route), token)).status;
  /** Twelve sequential calls, which Envoy distributes to both replicas. */
  const everywhere = (route: string, token: string) =>
    Promise.all(Array.from({ length: 12 }, () => call(route, token)));
  const becomes = (status: number, route: string, token: string) =>
    expect
      .poll(async () => new Set(await everywhere(route, token)), { interval: 50, timeout: 60_000 })
      .toEqual(new Set([status]));
  /** Signs in again, allows a client, and returns its token, even if policy denies the first call. */
  async function authorized(user: User, route: string): Promise<McpClient> {
    await stack.browser(user).jar.removeAllCookies();
    const client = await stack.client(user, url(route));
    await client.connect().catch((error: Error) => {
      if (!client.tokens()) throw error;
    });
    return client;
  }
  /**
   * A person gets a token while the provider reports `before`. After it reports `after`, no client is authorized for them, and every
   * replica rejects the existing token. Returns it.
   */
  async function denied(
    user: User,
    route: string,
    { before, after }: Record<"before" | "after", Parameters<typeof says>[1]>,
  ): Promise<string> {
    says(user, before);
    const token = tokenOf(await authorized(user, route));
    expect(await call(route, token)).toBe(200);
    says(user, after);
    await expect(authorized(user, route)).rejects.toThrow(/^access_denied: the policy of this gateway/);
    await becomes(403, route, token);
    return token;
  }
  async function rewrite(change: (file: StackConfig) => void): Promise<void> {
    const file = parse(await readFile(stack.configFile, "utf8")) as StackConfig;
    change(file);
    await writeFile(stack.configFile, stringify(file), { mode: 0o600 });
  }
  /** How often each replica has logged a reload of the file. */
  const loads = () =>
    Promise.all(
      ["sidecar.log", "second.log"].map(async (name) => {
        const log = await readFile(join(stack.configFile, "..", name), "utf8");
        return log.split("the routes file was reloaded").length;
      }),
    );
  /** Returns when both replicas have reloaded it. */
  async function rewriteEverywhere(change: Parameters<typeof rewrite>[0]): Promise<void> {
    const before = await loads();
    await rewrite(change);
    const isThere = async () => (await loads()).every((count, replica) => count > Number(before[replica]));
    await expect.poll(isThere, { interval: 20, timeout: 60_000 }).toBe(true);
  }
  const tokenOf = (client: McpClient) => client.tokens()?.access_token ?? "";
  interface Tokens {
    readonly access_token: string;
    readonly refresh_token: string;
  }
  async function refreshed({ access_token, refresh_token }: Tokens): Promise<Tokens> {
    const response = await stack.fetch(`${stack.urls.issuer}/oauth/token`, {
      method: "POST",
      body: new URLSearchParams({
        grant_type: "refresh_token",
        refresh_token,
        client_id: String(decodeJwt(access_token).client_id),
      }),
    });
    expect(response.status).toBe(200);
    const answer = Object(await response.json());
    return { access_token: String(answer.access_token), refresh_token: String(answer.refresh_token) };
  }
  async function listed(token: string): Promise<string[]> {
    const response = await stack.fetch(`${stack.urls.issuer}/.pomerium/mcp/routes`, {
      headers: { authorization: `Bearer ${token}` },
    });
    return Object(await response.json()).servers.map((server: { url: string }) => server.url);
  }
  /** What the application behind the client route receives for this person. */
  async function handedToApplication(user: User): Promise<Record<string, string>> {
    const browser = stack.browser(user);
    const signIn = await browser.open(`${url("app")}/.pomerium/sign_in?return_to=%2F`);
    const page = await browser.agree(signIn, stack.signIn(user));
    // The stand-in for the application accepts only POST.
    expect([page.url.href, page.status, page.html]).toEqual([`${url("app")}/`, 405, ""]);
    return Object.fromEntries(
      (stack.open.requests.at(-1)?.headers ?? []).map(([name, value]) => [name.toLowerCase(), value]),
    );
  }

  it("a contractor, by the provider's claim, is denied everywhere: MCP call, listing, portal, connect, application", async () => {
    const token = await denied("alice", "vip", {
      before: { more: { employment: "employee" } },
      after: { more: { employment: "contractor" } },
    });
    expect(await listed(token)).toEqual([]);
    const browser = stack.browser("alice");
    const portal = (await browser.open(`${stack.urls.issuer}/.pomerium/routes`)).html;
    expect(portal).toContain("https://open.test");
    expect(portal).not.toContain(url("vip"));
    const back = encodeURIComponent(`${stack.urls.issuer}/.pomerium/routes`);
    const connected = await browser.open(
      `${url("vip")}/.pomerium/mcp/connect?route=vip&redirect_url=${back}`,
    );
    expect(connected.url.searchParams.get("connect_error")).toBe("access_denied");
    const { authorization = "" } = await handedToApplication("alice");
    const { aud } = decodeJwt(authorization.replace("Bearer ", ""));
    expect(aud).toContain("https://open.test");
    expect(aud).not.toContain(url("vip"));
  });

  it("an employee who becomes a contractor is denied on every replica after the recheck, with old and new tokens", async () => {
    says("bob", { more: { employment: "employee" } });
    const client = await authorized("bob", "vip");
    const old = tokenOf(client);
    const application = (await handedToApplication("bob")).authorization?.replace("Bearer ", "") ?? "";
    for (const token of [old, application]) await becomes(200, "vip", token);
    says("bob", { more: { employment: "contractor" } });
    let tokens = { access_token: old, refresh_token: client.tokens()?.refresh_token ?? "" };
    await expect
      .poll(
        async () => {
          tokens = await refreshed(tokens);
          return call("vip", tokens.access_token);
        },
        { interval: 500, timeout: 60_000 },
      )
      .toBe(403);
    const renewed = tokens.access_token;
    for (const token of [old, renewed, application]) await becomes(403, "vip", token);
    expect(await listed(renewed)).toEqual([]);
  });

  it("a client's scope and name are not claims of the person", async () => {
    const token = await denied("alice", "scoped", {
      before: { more: { employment: "tester" } },
      after: { more: {} },
    });
    expect(decodeJwt(token).scope).toBe("mcp");
  });

  it("a token is rejected once the person's sign-in record is gone", async () => {
    says("alice", { more: {} });
    const token = tokenOf(await authorized("alice", "harmless"));
    await becomes(200, "harmless", token);
    await sql(`
      with gone as (delete from sign_in_session where user_id = 'company/alice' returning user_id)
      select pg_notify('envoy_mcp_auth_change', '{"table":"browser_session","userId":"' || user_id || '"}') from gone`);
    await becomes(401, "harmless", token);
  });

  it("a person in 300 groups is allowed by any of them; the assertion is limited and marked as incomplete", async () => {
    const groups = Array.from({ length: 300 }, (_, index) => `team-${index}`);
    says("alice", { groups, more: {} });
    const token = tokenOf(await authorized("alice", "last"));
    expect(token.length).toBeLessThan(1_500);
    expect(await call("last", token)).toBe(200);
    const sent = stack.open.requests.at(-1)?.headers ?? [];
    const assertion = sent.find(([name]) => name.toLowerCase() === "x-pomerium-jwt-assertion")?.[1] ?? "";
    expect(assertion.length).toBeLessThan(8_192);
    expect(decodeJwt(assertion)).toMatchObject({ groups: groups.slice(0, 100), groups_overflow: true });
    // The group is new, so the token cannot contain it. Once the file is active, the next call is denied.
    await rewriteEverywhere((file) => {
      const last = file.routes.find(({ id }) => id === "last");
      Object.assign(last ?? {}, {
        policy: [Object(last).policy[0], { deny: { and: [{ groups: "team-250" }] } }],
      });
    });
    expect(new Set(await everywhere("last", token))).toEqual(new Set([403]));
    await rewriteEverywhere((file) => {
      const last = file.routes.find(({ id }) => id === "last");
      Object.assign(last ?? {}, { policy: [Object(last).policy[0]] });
    });
    expect(new Set(await everywhere("last", token))).toEqual(new Set([200]));
    says("alice", { groups: ["team-0"] });
    const few = tokenOf(await authorized("alice", "open"));
    expect((await pingThroughEnvoy(stack, stack.urls.open, few)).status).toBe(200);
    const next = stack.open.requests
      .at(-1)
      ?.headers.find(([name]) => name.toLowerCase() === "x-pomerium-jwt-assertion");
    expect(decodeJwt(next?.[1] ?? "")).not.toHaveProperty("groups_overflow");
    await becomes(403, "last", token);
  });

  it("the assertion contains the operator's groups, in the provider's order, and is marked only if one of them is missing", async () => {
    /** Both claims, once all replicas write these values. */
    const asserted = (token: string, expected: { groups: readonly string[]; groups_overflow?: true }) =>
      expect
        .poll(
          async () => {
            await everywhere("harmless", token);
            const all = stack.open.requests.slice(-12).map(({ headers }) => {
              const [, jwt = ""] =
                headers.find(([name]) => name.toLowerCase() === "x-pomerium-jwt-assertion") ?? [];
              const { groups, groups_overflow } = decodeJwt(jwt);
              return JSON.stringify({ groups, groups_overflow });
            });
            return [...new Set(all)];
          },
          { interval: 50, timeout: 60_000 },
        )
        .toEqual([JSON.stringify(expected)]);
    const choose = (identity_assertion: object) =>
      rewriteEverywhere((file) => void Object.assign(file, { identity_assertion }));

    const own = ["team-19", "hr", "ops", "team-1", "ops-leads", "team-2", "team-100"];
    says("alice", { groups: own, more: {} });
    const token = tokenOf(await authorized("alice", "harmless"));
    await asserted(token, { groups: own });
    // Each setting applies from the next call on, despite previously minted assertions.
    await choose({ groups: ["team-1*", "ops"] });
    await asserted(token, { groups: ["team-19", "ops", "team-1", "team-100"] });
    await choose({ groups: ["team-1*", "ops"], max_groups: 4 });
    await asserted(token, { groups: ["team-19", "ops", "team-1", "team-100"] });
    await choose({ groups: ["team-1*", "ops"], max_groups: 2 });
    await asserted(token, { groups: ["team-19", "ops"], groups_overflow: true });
    await choose({ groups: ["nobody's"], max_groups: 0 });
    await asserted(token, { groups: [] });
    await choose({ max_groups: 0 });
    await asserted(token, { groups: [], groups_overflow: true });
    await choose({ max_groups: 1_000 });
    await asserted(token, { groups: own });

    // 3 KiB of names, whatever the maximum number: bytes, not characters.
    const long = Array.from({ length: 100 }, (_, index) => String(index).padStart(60, "x"));
    const wide = long.map((name) => name.replaceAll("xx", "é"));
    for (const groups of [long, wide]) {
      says("alice", { groups });
      const all = tokenOf(await authorized("alice", "harmless"));
      await asserted(all, { groups: groups.slice(0, 48), groups_overflow: true });
    }
    await choose({});
    says("alice", { groups: [] });
  });

  it.each([
    [
      "as distributed claims",
      {
        groups: undefined,
        _claim_names: { groups: "src1" },
        _claim_sources: { src1: { endpoint: "https://graph.test/groups" } },
      },
    ],
    ["by reporting only that there are some", { groups: undefined, hasgroups: true }],
    ["next to an empty list", { groups: [], hasgroups: true }],
  ])(
    "groups that the provider withholds %s may be denied ones, and are never allowed ones",
    async (_how, more) => {
      says("alice", { groups: [], more });
      const client = await authorized("alice", "harmless");
      await becomes(200, "harmless", tokenOf(client));
      const sent = stack.open.requests.at(-1)?.headers ?? [];
      const assertion = sent.find(([name]) => name.toLowerCase() === "x-pomerium-jwt-assertion")?.[1] ?? "";
      expect(decodeJwt(assertion)).toMatchObject({ groups: [], groups_overflow: true });
      const portal = await stack.browser("alice").open(`${stack.urls.issuer}/.pomerium/routes`);
      expect(portal.html).toContain("you are in too many groups for your sign-in provider to list");
      const after = { groups: [], more };
      await denied("alice", "partners", { before: { groups: [], more: {} }, after });
      await denied("alice", "last", { before: { groups: ["team-299"], more: {} }, after });
      says("alice", { groups: [], more: {} });
      expect(await call("partners", tokenOf(await authorized("alice", "partners")))).toBe(200);
    },
  );

  it.each([false, "false", "true", 0, null])(
    "an e-mail address with email_verified: %j does not count for policy",
    async (email_verified) => {
      await denied("bob", "staff", { before: { more: {} }, after: { more: { email_verified } } });
      const portal = await stack.browser("bob").open(`${stack.urls.issuer}/.pomerium/routes`);
      expect(portal.html).toContain("your sign-in provider sent no verified address");
    },
  );

  it("a verified one counts", async () => {
    says("bob", { more: {} });
    expect(await call("staff", tokenOf(await authorized("bob", "staff")))).toBe(200);
  });

  it.each([
    ["verified", true, 200],
    ["not verified", false, 403],
    ["not verified, as a string", "false", 403],
    ["verified, as text", "true", 403],
    ["not specified", undefined, 403],
  ])("a trusted issuer's e-mail address that is %s", async (_name, email_verified, status) => {
    for (const audience of [url("staff"), "gateway"]) {
      const token = await issuer.token(audience, { email: "ceo@example.com", email_verified });
      expect(await call("staff", token)).toBe(status);
    }
  });

  it("a trusted issuer's audience is valid for the listed routes only, and for nothing else after its own route is gone", async () => {
    const claims = { email: "ceo@example.com", email_verified: true };
    const [word, harmless] = [
      await issuer.token("gateway", claims),
      await issuer.token(url("harmless"), claims),
    ];
    expect([await call("staff", word), await call("vip", word), await call("harmless", word)]).toEqual([
      200, 401, 401,
    ]);
    expect([await call("harmless", harmless), await call("staff", harmless)]).toEqual([200, 401]);

    const file = parse(await readFile(stack.configFile, "utf8")) as StackConfig;
    const routes = file.routes.filter(({ id }) => id !== "harmless");
    await writeFile(stack.configFile, stringify({ ...file, routes }), { mode: 0o600 });
    await becomes(404, "harmless", harmless);
    expect(new Set(await everywhere("staff", harmless))).toEqual(new Set([401]));
    expect(new Set(await everywhere("vip", harmless))).toEqual(new Set([401]));
    expect((await throughEnvoy(stack, { url: url("harmless") })).status).toBe(404);
  });
});
