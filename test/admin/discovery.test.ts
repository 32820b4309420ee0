import { writeFile } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { stringify } from "yaml";
import { connected } from "../support/database-pool.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { startAdmin } from "./start-admin.ts";

let stack: Awaited<ReturnType<typeof startAdmin>>;
let upstream: ScriptedUpstream;
beforeAll(async () => {
  stack = await startAdmin({ replicas: 2 });
});
afterAll(() => stack?.close());
beforeEach(async () => {
  upstream = await scriptedUpstream();
});
afterEach(async () => {
  const { body } = await call("GET", "/routes");
  for (const { id, source } of body.routes as { id: string; source: string }[])
    if (source === "database") await call("DELETE", `/routes/${id}`);
  await connected(stack.env.DATABASE_URL, (client) => client.query("delete from client_registration"));
  await upstream.close();
});

const call = (...given: Parameters<typeof stack.first.call>) => stack.first.call(...given);
const route = (id: string, more: object = {}, oauth: object = {}) => ({
  ...{ id, from: `https://${id}.test`, to: upstream.mcp, mcp: { server: { upstream_oauth2: oauth } } },
  ...more,
});
const byHand = { client_id: "by-hand", client_secret: "S3CRET" };
/** What an authorization server and this gateway know of each other. */
const rows = () =>
  connected(stack.env.DATABASE_URL, async (client) => {
    const { rows: found } = await client.query(
      `select (select count(*) from client_registration where client_id is not null)::int as registrations,
        (select count(*) from client_issuer)::int + (select count(*) from route_issuer)::int as issuers`,
    );
    return found[0];
  });
const nothing = { registrations: 0, issuers: 0 };

/**
 * Registrations with a management URL (RFC 7592).
 * @param more further members of each answer; undefined: it fails
 * @param wait what an answer waits for
 * @returns the ids of deleted clients
 */
function registering(
  more: (count: number) => object | undefined = () => ({}),
  wait: (count: number) => Promise<void> = async () => {},
) {
  const deleted: string[] = [];
  let count = 0;
  upstream.on("/register", async ({ body }) => {
    count += 1;
    const answer = more(count);
    const clientId = `registered-${count}`;
    await wait(count);
    if (answer === undefined) return { status: 500, body: "failed" };
    const uri = `/clients/${clientId}`;
    upstream.on(uri, ({ method, headers }) => {
      if (method === "DELETE" && headers.authorization === "Bearer manage") deleted.push(clientId);
      return { status: 204, body: "" };
    });
    return {
      status: 201,
      body: {
        ...{ client_id: clientId, client_secret: "S3CRET", redirect_uris: JSON.parse(body).redirect_uris },
        ...{ registration_client_uri: upstream.url + uri, registration_access_token: "manage", ...answer },
      },
    };
  });
  return { deleted };
}

describe("an actor who loses their access while the upstream is asked", () => {
  it("stores nothing, and the client that was registered meanwhile is deleted", async () => {
    const { admin_api, ...others } = stack.config;
    const write = (access: object) =>
      writeFile(stack.file, stringify({ ...others, admin_api: access }), { mode: 0o600 });
    const options = { token: stack.tokens.named };
    const { deleted } = registering(
      () => ({}),
      async () => {
        await write({ ...admin_api, admin_tokens: [stack.tokens.admin] });
        while ((await call("GET", "/routes", undefined, options)).status !== 401);
      },
    );
    const { status, body } = await call("POST", "/routes", route("late"), options);
    expect([status, body.error]).toEqual([403, "forbidden"]);
    expect((await call("GET", "/routes/late")).status).toBe(404);
    await expect.poll(() => deleted).toEqual(["registered-1"]);
    await write(admin_api);
    while ((await call("GET", "/routes", undefined, options)).status !== 200);
  });
});

describe("discovery", () => {
  it("is shown to administrators, without secrets, and not to viewers", async () => {
    registering();
    const expected = {
      ...{ issuer: upstream.url, authorization_endpoint: `${upstream.url}/authorize` },
      ...{ token_endpoint: `${upstream.url}/token`, scopes: ["read", "write"] },
      at: expect.stringMatching(/^\d{4}-.*Z$/),
    };
    const registered = await call("POST", "/routes", route("registered"));
    expect([registered.status, registered.body.discovery]).toEqual([
      201,
      { ...expected, client_id: "registered-1", registered_how: "registered" },
    ]);
    const configured = await call(
      "POST",
      "/routes",
      route("configured", {}, { ...byHand, scopes: ["read"] }),
    );
    expect(configured.body.discovery).toEqual({
      ...{ ...expected, scopes: ["read"] },
      ...{ client_id: "by-hand", registered_how: "configured" },
    });
    expect(configured.text + registered.text).not.toContain("S3CRET");
    const seen = await call("GET", "/routes/configured", undefined, { token: stack.tokens.viewer });
    expect(seen.body).not.toHaveProperty("discovery");
    // Another change keeps it, another kind of authentication removes it.
    expect((await call("PATCH", "/routes/configured", { name: "N" })).body.discovery).toMatchObject({
      client_id: "by-hand",
    });
    const key = { server: { upstream_auth: { api_key: { header: "x-key", value: "k" } } } };
    expect((await call("PATCH", "/routes/configured", { mcp: key })).body).not.toHaveProperty("discovery");
    expect(await rows()).toEqual({ registrations: 1, issuers: 0 });
  });
  it("runs for a configured client without endpoints, and stores nothing if it fails", async () => {
    upstream.off("/.well-known/oauth-protected-resource/mcp");
    upstream.off("/.well-known/oauth-authorization-server");
    const { status, body } = await call("POST", "/routes", route("lost", {}, byHand));
    expect([status, body.what_to_do]).toEqual([422, expect.stringMatching(/upstream_oauth2/)]);
    expect((await call("GET", "/routes/lost")).status).toBe(404);
    expect(await rows()).toEqual(nothing);
    const endpoint = { auth_url: `${upstream.url}/authorize`, token_url: `${upstream.url}/token` };
    expect((await call("POST", "/routes", route("lost", {}, { ...byHand, endpoint }))).status).toBe(201);
  });

  it("runs when a route is enabled or its upstream changes, and leaves the route as it was if it fails", async () => {
    registering();
    const there = upstream.mcp;
    const nowhere = "http://127.0.0.1:9/mcp";
    const disabled = await call("POST", "/routes", route("later", { to: nowhere, enabled: false }));
    expect([disabled.status, disabled.body.discovery]).toEqual([201, undefined]);
    const enabled = await call("PATCH", "/routes/later", { enabled: true });
    expect([enabled.status, enabled.body.error]).toEqual([422, "unreachable"]);
    expect((await call("GET", "/routes/later")).body).toMatchObject({
      enabled: false,
      version: disabled.body.version,
    });
    expect((await call("PATCH", "/routes/later", { to: there })).status).toBe(200);
    const now = await call("PATCH", "/routes/later", { enabled: true });
    expect(now.body).toMatchObject({ enabled: true, discovery: { client_id: "registered-1" } });
    const moved = await call("PATCH", "/routes/later", { to: nowhere });
    expect([moved.status, moved.body.error]).toEqual([422, "unreachable"]);
    expect((await call("GET", "/routes/later")).body.to).toEqual([there]);
  });
});

describe("a change, while the authorization server is down,", () => {
  const oauth = (more: object) => ({ mcp: { server: { upstream_oauth2: more } } });
  const server = (more: object) => ({ mcp: { server: more } });
  const down = () => {
    upstream.off("/.well-known/oauth-protected-resource/mcp");
    upstream.off("/.well-known/oauth-authorization-server");
  };

  it("asks nothing, and is stored, if discovery does not depend on it", async () => {
    registering();
    for (const [id, client] of [
      ["configured", byHand],
      ["registered", {}],
    ] as const) {
      const { body } = await call("POST", "/routes", route(id, {}, client));
      const { discovery } = body;
      expect(discovery).toMatchObject({ issuer: upstream.url });
      const asked = upstream.seen.length;
      down();
      for (const change of [
        ...[{ tools: { deny: ["delete"] } }, server({ request_headers: { set: { "x-a": "b" } } })],
        ...[server({ max_request_bytes: 2048 }), { name: "N", enabled: true, to: upstream.mcp }],
        ...(id === "configured"
          ? [oauth({ client_secret: "NEW" }), { from: "https://configured-2.test" }]
          : []),
      ])
        expect(await call("PATCH", `/routes/${id}`, change), JSON.stringify(change)).toMatchObject({
          status: 200,
          body: { discovery },
        });
      expect(upstream.seen.length).toBe(asked);
      await upstream.close();
      upstream = await scriptedUpstream();
      registering();
    }
  });

  it("fails if discovery depends on it", async () => {
    expect((await call("POST", "/routes", route("depends", {}, byHand))).status).toBe(201);
    down();
    for (const change of [
      { to: `${upstream.mcp}/v2` },
      server({ authorization_server_url: upstream.url }),
      server({ expected_issuer: "https://as.test" }),
      server({ path: "/sse" }),
      oauth({ client_id: "another" }),
    ])
      expect((await call("PATCH", "/routes/depends", change)).status, JSON.stringify(change)).toBe(422);
    expect((await call("PATCH", "/routes/depends", { enabled: false })).status).toBe(200);
    expect((await call("PATCH", "/routes/depends", { enabled: true })).status).toBe(422);
  });

  it("is stored, and what was discovered is kept, if only what is shown of it would differ", async () => {
    const { body } = await call("POST", "/routes", route("shown", {}, byHand));
    const asked = () => upstream.seen.length;
    down();
    for (const [change, asks] of [
      [oauth({ scopes: ["read"] }), true],
      [oauth({ client_secret: "" }), false],
      [oauth({ client_secret: "NEW" }), true],
    ] as const) {
      const before = asked();
      expect(await call("PATCH", "/routes/shown", change)).toMatchObject({
        status: 200,
        body: { discovery: body.discovery },
      });
      expect(asked() > before).toBe(asks);
    }
  });
});

describe("a creation that fails", () => {
  it("after the server has registered a client takes the registration back, also at the server", async () => {
    // A secret that is about to expire is replaced at once, which fails.
    const soon = Math.floor(Date.now() / 1000) + 30;
    const { deleted } = registering((count) =>
      count === 1 ? { client_secret_expires_at: soon } : undefined,
    );
    const { status, body } = await call("POST", "/routes", route("half"));
    expect([status, body.error]).toEqual([422, "server_error"]);
    expect((await call("GET", "/routes/half")).status).toBe(404);
    expect(await rows()).toEqual(nothing);
    expect(deleted).toEqual(["registered-1"]);
  });

  it("because the database rejects the route takes the registration back, also at the server", async () => {
    const { deleted } = registering();
    const query = (text: string) => connected(stack.env.DATABASE_URL, (client) => client.query(text));
    await query(`create function fails() returns trigger language plpgsql as $$ begin raise 'disk full'; end $$;
      create trigger fails before insert on stored_route execute function fails()`);
    onTestFinished(async () => {
      await query("drop trigger fails on stored_route; drop function fails");
    });
    expect((await call("POST", "/routes", route("unlucky"))).status).toBeGreaterThanOrEqual(500);
    expect(await rows()).toEqual(nothing);
    expect(deleted).toEqual(["registered-1"]);
  });

  it("because another one was faster takes its own registration back, and keeps the other's", async () => {
    const [asked, first] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const { deleted } = registering(undefined, async (count) => {
      if (count > 1) return;
      asked.resolve();
      await first.promise;
    });
    const same = { from: "https://same.test" };
    const slow = call("POST", "/routes", route("slow", same));
    await asked.promise;
    const fast = await stack.replicas[1]?.call("POST", "/routes", route("fast", same));
    expect(fast?.status).toBe(201);
    first.resolve();
    expect([(await slow).status, (await slow).body.error]).toEqual([409, "duplicate"]);
    expect(deleted).toEqual(["registered-1"]);
    expect(await rows()).toEqual({ registrations: 1, issuers: 0 });
  });

  it("because the same route was created at the same time keeps the registration that both share", async () => {
    const { deleted } = registering();
    const both = await Promise.all(stack.replicas.map((one) => one.call("POST", "/routes", route("shared"))));
    expect(both.map(({ status }) => status).toSorted()).toEqual([201, 409]);
    expect(deleted).toEqual([]);
    expect(await rows()).toEqual({ registrations: 1, issuers: 0 });
  });
});

describe("a client that was registered for a route is not taken back", () => {
  const soon = () => ({ client_secret_expires_at: Math.floor(Date.now() / 1000) + 30 });
  const clear = () =>
    connected(stack.env.DATABASE_URL, (client) => client.query("delete from client_registration"));

  it("by a change that fails, of a route in force: its users may use the client already", async () => {
    const answers = [{}, soon(), undefined];
    const { deleted } = registering((count) => answers[count - 1]);
    expect((await call("POST", "/routes", route("used"))).status).toBe(201);
    await clear();
    // The new client is to be replaced at once, which fails.
    const { status, body } = await call("PATCH", "/routes/used", { from: "https://used-elsewhere.test" });
    expect([status, body.error]).toEqual([422, "server_error"]);
    expect(deleted).toEqual([]);
    expect(await rows()).toEqual({ registrations: 1, issuers: 0 });
  });

  it("by a creation whose id is that of a route that cannot be decrypted", async () => {
    const { deleted } = registering();
    expect((await call("POST", "/routes", route("unreadable"))).status).toBe(201);
    await connected(stack.env.DATABASE_URL, (client) =>
      client.query("update stored_route set sealed = 'x' where id = 'unreadable'"),
    );
    // Has the routes read again.
    expect((await call("POST", "/routes", route("another"))).status).toBe(201);
    await clear();
    const { status, body } = await call("POST", "/routes", route("unreadable"));
    expect([status, body.error]).toEqual([409, "duplicate"]);
    expect(deleted).toEqual([]);
  });
});
