import { writeFile } from "node:fs/promises";
import { Ajv2020 } from "ajv/dist/2020.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import {
  type UpstreamAuthorizationServer,
  upstreamAuthorizationServer,
} from "../../dev/demo/upstream-authorization-server.ts";
import { runAudit } from "../../src/cli/audit.ts";
import { discoveryFaults, documentedFaults, quoted } from "../compatibility/discovery-faults.ts";
import { connected } from "../support/database-pool.ts";
import {
  legacyServer,
  legacySession,
  type ScriptedServer,
  scriptedServer,
} from "../upstream-oauth/scripted-server.ts";
import { scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { type AdminAnswer, startAdmin } from "./start-admin.ts";

let stack: Awaited<ReturnType<typeof startAdmin>>;
let authorizationServer: UpstreamAuthorizationServer;
let upstream: ScriptedServer;

beforeAll(async () => {
  authorizationServer = await upstreamAuthorizationServer({ clients: [], dynamicRegistration: true });
  upstream = await scriptedServer();
  stack = await startAdmin({ replicas: 2 });
});
afterAll(async () => {
  await stack?.close();
  await upstream?.close();
  await authorizationServer?.close();
});

const open = (name: string, more: object = {}) => ({
  id: name,
  from: `https://${name}.test`,
  to: "http://127.0.0.1:9/mcp",
  mcp: { server: { upstream_auth: { none: {} } } },
  ...more,
});
const call = (...given: Parameters<typeof stack.first.call>) => stack.first.call(...given);

describe("admin API: authentication", () => {
  it("rejects a missing token, a wrong token and a token in another scheme", async () => {
    for (const authorization of ["", "Bearer wrong", `Basic ${stack.tokens.admin}`]) {
      const answer = await call("GET", "/routes", undefined, { headers: { authorization } });
      expect(answer.status).toBe(401);
      expect(answer.headers.get("www-authenticate")).toBe("Bearer");
    }
  });

  it("shows viewers a redacted view and does not let them change anything", async () => {
    await call(
      "POST",
      "/routes",
      open("seen", { mcp: { server: { upstream_auth: { api_key: { header: "x-key", value: "s" } } } } }),
    );
    const as = { token: stack.tokens.viewer };
    const { body } = await call("GET", "/routes/seen", undefined, as);
    expect(Object.keys(body).toSorted()).toEqual(
      ["auth", "description", "enabled", "id", "in_force", "kind", "name", "source", "url"].toSorted(),
    );
    expect((await call("POST", "/routes", open("no"), as)).status).toBe(403);
    expect((await call("PATCH", "/routes/seen", {}, as)).status).toBe(403);
    expect((await call("DELETE", "/routes/seen", undefined, as)).status).toBe(403);
    expect((await call("GET", "/audit", undefined, as)).status).toBe(403);
  });

  it("shows viewers enabled routes only", async () => {
    await call("POST", "/routes", open("hidden", { enabled: false }));
    const as = { token: stack.tokens.viewer };
    const ids = ({ body }: AdminAnswer) => (body.routes as { id: string }[]).map(({ id }) => id);
    expect(ids(await call("GET", "/routes"))).toContain("hidden");
    expect(ids(await call("GET", "/routes", undefined, as))).toContain("in-file");
    expect(ids(await call("GET", "/routes", undefined, as))).not.toContain("hidden");
    expect((await call("GET", "/routes/hidden", undefined, as)).status).toBe(404);
  });

  it("records in the audit trail whose token created, changed and deleted a route", async () => {
    const byName = { token: stack.tokens.named };
    await call("POST", "/routes", open("owned"));
    await call("PATCH", "/routes/owned", { name: "Owned" }, byName);
    await call("DELETE", "/routes/owned", undefined, byName);
    const { text } = await call("GET", "/audit?route_id=owned&until=2100-01-01T00:00:00Z");
    const events = text.trim().split("\n");
    expect(events.map((line) => JSON.parse(line)).map(({ action, actor }) => [action, actor])).toEqual([
      ["route.created", "token:admin_tokens[0]"],
      ["route.changed", "token:pipeline"],
      ["route.deleted", "token:pipeline"],
    ]);
  });
});

describe("admin API: routes", () => {
  it("lists routes of the file and the database, and changes only the latter", async () => {
    const { body } = await call("GET", "/routes");
    expect(body.routes).toContainEqual(expect.objectContaining({ id: "in-file", source: "file" }));
    for (const method of ["PATCH", "DELETE"]) {
      const answer = await call(method, "/routes/in-file", method === "PATCH" ? {} : undefined);
      expect([answer.status, answer.body.error]).toEqual([409, "in_routes_file"]);
      expect((await call(method, "/routes/nowhere", method === "PATCH" ? {} : undefined)).status).toBe(404);
    }
  });

  it("takes effect on every replica", async () => {
    const created = await call("POST", "/routes", open("everywhere"));
    expect(created.headers.get("location")).toBe("/admin/v1/routes/everywhere");
    const other = stack.replicas[1];
    for (;;) {
      const seen = await other?.call("GET", "/routes/everywhere");
      if (seen?.status === 200 && seen.body.in_force === true) break;
    }
  });

  it("creates, reads and changes an aggregated route, whose members must exist", async () => {
    await call("POST", "/routes", open("member"));
    const aggregate = (routes: unknown) => ({
      ...{ id: "all", from: "https://all.test", mcp: { aggregate: { routes } } },
    });
    const unknown = await call("POST", "/routes", aggregate(["member", "nowhere"]));
    expect([unknown.status, unknown.body.problems]).toEqual([
      400,
      [expect.objectContaining({ path: "mcp.aggregate.routes.1", message: "there is no route nowhere" })],
    ]);
    const created = await call("POST", "/routes", aggregate(["member"]));
    expect(created.body).toMatchObject({ kind: "server", auth: "aggregate", in_force: true, to: [] });
    expect((await call("GET", "/routes/all")).body.settings).toMatchObject(aggregate(["member"]));
    const both = await call("PATCH", "/routes/all", { to: "http://127.0.0.1:9" });
    expect([both.status, both.body.problems]).toEqual([
      400,
      [expect.objectContaining({ path: "to", message: expect.stringContaining("no upstream of its own") })],
    ]);
    expect((await call("PATCH", "/routes/all", { mcp: { aggregate: { routes: "all" } } })).status).toBe(200);
    const server = {
      mcp: { aggregate: null, server: { upstream_auth: { none: {} } } },
      to: "http://127.0.0.1:9",
    };
    expect((await call("PATCH", "/routes/all", server)).body).toMatchObject({ auth: "none", in_force: true });
    expect((await call("DELETE", "/routes/all")).status).toBe(204);
  });

  it("keeps a route that another stored route names, and names that one; a disabled member leaves the aggregated route in force", async () => {
    await call("POST", "/routes", open("one"));
    await call("POST", "/routes", open("two"));
    const members = ["one", "https://two.test"];
    await call("POST", "/routes", {
      id: "both",
      from: "https://both.test",
      mcp: { aggregate: { routes: members } },
    });
    await call("POST", "/routes", open("app", { mcp: { client: { routes: ["two"] } } }));
    const inForce = async (id: string) => (await call("GET", `/routes/${id}`)).body.in_force;

    const deleted = await call("DELETE", "/routes/one");
    expect([deleted.status, deleted.body]).toEqual([
      409,
      {
        error: "in_use",
        error_description: "other stored routes would no longer be served: both",
        problems: [
          expect.objectContaining({ path: "both: mcp.aggregate.routes.0", message: "there is no route one" }),
        ],
        what_to_do: expect.stringMatching(/^change or delete both first, or disable one \(enabled: false\)/),
      },
    ]);
    const moved = await call("PATCH", "/routes/two", { from: "https://elsewhere.test" });
    expect([moved.status, moved.body.error_description]).toEqual([409, expect.stringMatching(/: both$/)]);
    const turned = await call("PATCH", "/routes/two", { mcp: { server: null, client: {} } });
    expect([turned.status, turned.body.error_description]).toEqual([
      409,
      expect.stringMatching(/: both, app$/),
    ]);
    expect(await Promise.all(["one", "two", "both", "app"].map(inForce))).toEqual([true, true, true, true]);

    expect((await call("PATCH", "/routes/one", { enabled: false })).status).toBe(200);
    expect(await inForce("both")).toBe(true);
    await call("PATCH", "/routes/both", { mcp: { aggregate: { routes: ["two"] } } });
    expect((await call("DELETE", "/routes/one")).status).toBe(204);
    for (const id of ["app", "both", "two"]) expect((await call("DELETE", `/routes/${id}`)).status).toBe(204);
  });

  it("rejects an aggregated route that names a member twice", async () => {
    const twice = {
      id: "twice",
      from: "https://twice.test",
      mcp: { aggregate: { routes: ["in-file", "https://file.test"] } },
    };
    const { status, body } = await call("POST", "/routes", twice);
    expect([status, body.problems]).toEqual([
      400,
      [
        {
          path: "mcp.aggregate.routes.1",
          message: "https://file.test is the route of entry 1, too",
          fix: "remove one of them",
        },
      ],
    ]);
  });

  it("derives a missing id, and rejects a duplicate id or URL with 409", async () => {
    const { id: _id, ...nameless } = open("nameless");
    const created = await call("POST", "/routes", nameless);
    expect(created.body.id).toMatch(/^nameless-test-[0-9a-f]{8}$/);
    for (const twice of [
      nameless,
      open("in-file", { from: "https://elsewhere.test" }),
      open("other", { from: "https://file.test" }),
      open("other", { from: "https://nameless.test/" }),
    ])
      expect([(await call("POST", "/routes", twice)).status, twice.from]).toEqual([409, twice.from]);
    const race = await Promise.all(stack.replicas.map((one) => one.call("POST", "/routes", open("race"))));
    expect(race.map(({ status }) => status).toSorted()).toEqual([201, 409]);
  });

  it("names the field and the fix of each invalid setting", async () => {
    const { status, body } = await call("POST", "/routes", open("bad", { to: "ftp://x", nmae: "x" }));
    expect([status, body.error]).toEqual([400, "invalid_route"]);
    expect(body.problems).toEqual([
      expect.objectContaining({ path: "to[0]" }),
      expect.objectContaining({ path: "nmae", fix: "did you mean name?" }),
    ]);
    const endpoint = { auth_url: "https://a.test/a", token_url: "https://a.test/t", auth_style: "header" };
    const oauth = { client_id: "c", endpoint, authorization_url_params: { state: "mine" } };
    const answer = await call(
      "POST",
      "/routes",
      open("bad", { mcp: { server: { upstream_oauth2: oauth } } }),
    );
    expect([answer.status, answer.body.problems]).toEqual([
      400,
      [
        expect.objectContaining({
          path: "mcp.server.upstream_oauth2.endpoint.auth_style",
          message: "client_secret_basic needs a client_secret",
        }),
        expect.objectContaining({ path: "mcp.server.upstream_oauth2.authorization_url_params.state" }),
      ],
    ]);
    const client = open("bad", { mcp: { client: { routes: ["file"] } }, tools: { deny: ["x"] } });
    expect((await call("POST", "/routes", client)).body.problems).toEqual([
      expect.objectContaining({ path: "tools", fix: expect.stringContaining("on the MCP routes") }),
    ]);
    expect((await call("GET", "/routes/bad")).status).toBe(404);
    expect((await call("POST", "/routes", [])).body.error).toBe("invalid_json");
    const form = await call("POST", "/routes", {}, { headers: { "content-type": "text/plain" } });
    expect(form.status).toBe(415);
  });

  it("reads neither files nor environment variables for a caller", async () => {
    const auth = (value: string) => ({
      mcp: { server: { upstream_auth: { api_key: { header: "x-k", value } } } },
    });
    expect((await call("POST", "/routes", open("reads", auth("file:/etc/hostname")))).status).toBe(201);
    expect((await call("PATCH", "/routes/reads", { tls_custom_ca_file: "/etc/hostname" })).status).toBe(400);
    const workload = { client_credentials: { client_id: "c", workload_identity_file: "/etc/hostname" } };
    expect(
      (await call("PATCH", "/routes/reads", { mcp: { server: { upstream_auth: workload } } })).status,
    ).toBe(400);
  });

  it("does not overwrite a concurrent change", async () => {
    const { body } = await call("POST", "/routes", open("versions"));
    const seen = { headers: { "if-match": `"${body.version}"` } };
    const next = Number(body.version) + 1;
    expect((await call("PATCH", "/routes/versions", { name: "One" }, seen)).body.version).toBe(next);
    expect((await call("PATCH", "/routes/versions", { name: "Two" }, seen)).status).toBe(412);
    expect((await call("PATCH", "/routes/versions", { id: "else" })).status).toBe(400);
  });

  it("does not take a route that was created again for the one that was read", async () => {
    const { body } = await call("POST", "/routes", open("reborn"));
    await call("DELETE", "/routes/reborn");
    await call("POST", "/routes", open("reborn"));
    const seen = { headers: { "if-match": `"${body.version}"` } };
    expect((await call("PATCH", "/routes/reborn", { name: "Old" }, seen)).status).toBe(412);
    expect((await call("DELETE", "/routes/reborn", undefined, seen)).status).toBe(412);
    expect((await call("GET", "/routes/reborn")).status).toBe(200);
  });

  it.each([
    ["lists", `{"policy": ${"[".repeat(7000)}${"]".repeat(7000)}}`],
    ["mappings", `{"labels": ${'{"a":'.repeat(2500)}1${"}".repeat(2500)}}`],
    ["policies", `{"policy": [{"allow": {"and": [${'{"not":['.repeat(1000)}1${"]}".repeat(1000)}]}}]}`],
  ])("rejects %s that are nested too deeply, as the caller's fault", async (_what, body) => {
    await call("POST", "/routes", open("nested"));
    for (const [method, path] of [
      ["PATCH", "/routes/nested"],
      ["POST", "/routes"],
    ] as const) {
      const headers = { authorization: `Bearer ${stack.tokens.admin}`, "content-type": "application/json" };
      const response = await fetch(`${stack.first.url}/admin/v1${path}`, { method, headers, body });
      expect([response.status, (await response.text()).includes("more than 64 levels")]).toEqual([400, true]);
    }
  });

  it("rejects the key __proto__ at any place, with which settings would apply that nobody sees", async () => {
    await call("POST", "/routes", open("inherits"));
    for (const place of [[], ["labels"], ["mcp", "server", "upstream_auth", "headers"]]) {
      const inner: unknown = JSON.parse(
        '{"__proto__": {"policy": [{"allow": {"and": [{"accept": true}]}}]}}',
      );
      const change = place.toReversed().reduce((below, key) => ({ [key]: below }), inner);
      const { status, body } = await call("PATCH", "/routes/inherits", change);
      expect([status, body.problems]).toEqual([
        400,
        [expect.objectContaining({ path: [...place, "__proto__"].join(".") })],
      ]);
    }
  });

  it("disables a stored route that the routes file later conflicts with, and reports it", async () => {
    await call("POST", "/routes", open("claimed"));
    const routes = [...stack.config.routes, { ...open("claims"), from: "https://claimed.test" }];
    await writeFile(stack.file, stringify({ ...stack.config, routes }), { mode: 0o600 });
    for (;;) {
      const { body } = await call("GET", "/routes/claimed");
      if (body.in_force === true) continue;
      expect(body.problems).toEqual([expect.objectContaining({ path: "from" })]);
      break;
    }
    const metrics = await (await fetch(`${stack.first.url}/metrics`)).text();
    expect(metrics).toMatch(/^envoy_mcp_auth_routes_rejected\{reason="route_invalid"\} 1$/m);
    expect(metrics).toMatch(/^envoy_mcp_auth_routes_rejected\{reason="route_unreadable"\} 0$/m);
    await call("DELETE", "/routes/claimed");
  });
});

describe("admin API: discovery", () => {
  const discovered = (name: string) => ({
    id: name,
    from: `https://${name}.test`,
    to: `${upstream.url}/mcp`,
    mcp: { server: {} },
  });

  it("discovers and registers immediately", async () => {
    upstream.on("/mcp", { status: 401, headers: { "www-authenticate": "Bearer" } });
    upstream.on("/.well-known/oauth-protected-resource/mcp", {
      body: { resource: `${upstream.url}/mcp`, authorization_servers: [authorizationServer.issuer] },
    });
    const created = await call("POST", "/routes", discovered("discovered"));
    expect([created.status, created.body.auth]).toEqual([201, "oauth"]);
  });

  it("stores nothing when that fails, and says what to configure manually", async () => {
    upstream.off("/.well-known/oauth-protected-resource/mcp");
    const { status, body } = await call("POST", "/routes", discovered("lost"));
    expect([status, body.error]).toEqual([
      422,
      expect.stringMatching(/^(discovery_failed|registration_(unavailable|rejected))$/),
    ]);
    expect(body.what_to_do).toMatch(/upstream_oauth2/);
    expect((await call("GET", "/routes/lost")).status).toBe(404);
  });

  it("accepts a legacy HTTP+SSE server, unless its stream sends clients to another host", async () => {
    const legacy = await scriptedServer();
    try {
      const asked = (id: string) => ({ ...discovered(id), to: `${legacy.url}/sse` });
      legacy.on("/sse", legacyServer("https://elsewhere.test/messages"));
      const refused = await call("POST", "/routes", asked("legacy"));
      expect([refused.status, refused.body.error]).toEqual([422, "upstream_endpoint_elsewhere"]);
      expect(refused.body.what_to_do).toContain("Configure the server to announce its endpoint");
      legacy.on("/sse", legacyServer("/messages?sessionId=a"));
      legacy.on("/messages", { status: 404 });
      const silent = await call("POST", "/routes", asked("legacy"));
      expect([silent.status, silent.body.error]).toEqual([422, "not_an_mcp_server"]);
      legacySession(legacy, "/messages?sessionId=a", { at: "/sse" });
      expect((await call("POST", "/routes", asked("legacy"))).status).toBe(201);
    } finally {
      await legacy.close();
    }
  });

  // The client is configured, so registration is not needed before a user connects.
  const found = Object.entries(discoveryFaults).filter(([code]) => code !== "issuer_changed");
  it.each(found)("answers 422 with the logged message and the advice for %s", async (code, fault) => {
    const row = documentedFaults.get(code);
    const faulty = await scriptedUpstream();
    try {
      fault.arrange?.(faulty);
      const asked = {
        id: "faulty",
        from: "https://faulty.test",
        to: fault.to ?? faulty.mcp,
        mcp: { server: parse(fault.server ?? "{}") },
      };
      const { status, body } = await call("POST", "/routes", asked);
      expect([status, body.error]).toEqual([422, code]);
      const said = quoted(row?.log ?? "").filter((phrase) => String(body.error_description).includes(phrase));
      expect(said, String(body.error_description)).not.toEqual([]);
      for (const phrase of fault.unseen ? [] : quoted(row?.advice ?? ""))
        expect(body.what_to_do).toContain(phrase);
      expect(body.what_to_do).toMatch(/\w{3}/);
      expect((await call("GET", "/routes/faulty")).status).toBe(404);
    } finally {
      await faulty.close();
    }
  });
});

describe("admin API: OpenAPI document", () => {
  it("is an OpenAPI 3.1 document that all responses conform to", async () => {
    const { body } = await call("GET", "/openapi.json");
    expect(body.openapi).toBe("3.1.0");
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    ajv.addSchema({ $id: "api", ...body });
    const list = ajv.getSchema("api#/paths/~1routes/get/responses/200/content/application~1json/schema");
    const routes = (await call("GET", "/routes")).body;
    expect([list?.(routes), list?.errors]).toEqual([true, null]);
    const error = ajv.getSchema("api#/components/schemas/Error");
    for (const answer of [
      await call("GET", "/routes/nowhere"),
      await call("POST", "/routes", { from: 7 }),
      await call("GET", "/routes", undefined, { token: "x" }),
    ])
      expect([error?.(answer.body), error?.errors]).toEqual([true, null]);
    const settings = ajv.getSchema("api#/components/schemas/RouteSettings");
    expect([
      settings?.(open("fits", { policy: { allow: { or: [{ accept: true }] } } })),
      settings?.errors,
    ]).toEqual([true, null]);
    expect(
      settings?.(open("fits", { to: ["http://a", "http://b"], mcp: { server: { upstream_auth: "none" } } })),
    ).toBe(true);
    expect(settings?.(open("fits", { nmae: "no" }))).toBe(false);
    const event = ajv.getSchema("api#/components/schemas/AuditEvent");
    const lines = (await call("GET", "/audit?until=2100-01-01&action=route.created")).text.trim().split("\n");
    expect(lines.length).toBeGreaterThan(3);
    for (const line of lines) expect([event?.(JSON.parse(line)), event?.errors]).toEqual([true, null]);
  });

  it("exports the same audit trail on the command line", async () => {
    const printed: string[] = [];
    const err = (text: string) => expect(text).toBe("");
    const which = { action: "route.created" };
    const options = {
      file: stack.file,
      env: stack.env,
      out: (text: string) => void printed.push(text),
      ...{ err, drained: async () => true },
    };
    expect(await runAudit({ ...options, which })).toBe(0);
    expect(printed.join("")).toBe((await call("GET", "/audit?until=2100-01-01&action=route.created")).text);
  });

  it.each(["delegation.created", "delegation.given"])(
    "finds by %s what earlier versions called delegation.given",
    async (action) => {
      await connected(stack.env.DATABASE_URL, (client) =>
        client.query(
          `delete from audit_event where action like 'delegation.%';
         insert into audit_event (action) values ('delegation.given'), ('delegation.created'), ('delegation.ended')`,
        ),
      );
      const printed: string[] = [];
      const err = (text: string) => expect(text).toBe("");
      const options = {
        file: stack.file,
        env: stack.env,
        out: (text: string) => void printed.push(text),
        ...{ err, drained: async () => true },
      };
      await runAudit({ ...options, which: { action } });
      const { text } = await call("GET", `/audit?until=2100-01-01&action=${action}`);
      for (const lines of [printed.join(""), text])
        expect(
          lines
            .trim()
            .split("\n")
            .map((line) => JSON.parse(line).action),
        ).toEqual(["delegation.given", "delegation.created"]);
    },
  );

  it("exports the audit trail page by page", async () => {
    const path = "/audit?until=2100-01-01&limit=2";
    const first = (await call("GET", path)).text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).id);
    const next = (await call("GET", `${path}&after=${first[1]}`)).text.trim().split("\n");
    expect(first).toHaveLength(2);
    expect(JSON.parse(next[0] ?? "").id).toBeGreaterThan(first[1]);
    expect((await call("GET", "/audit?after=x")).status).toBe(400);
    expect((await call("GET", "/audit?since=yesterday")).status).toBe(400);
  });
});
