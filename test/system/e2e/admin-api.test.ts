import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type OpenServer, openServer } from "../../../dev/demo/open-server.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { throughEnvoy } from "../../support/through-envoy.ts";

const token = randomBytes(32).toString("base64url");
let e2e: E2e;
let added: OpenServer;

beforeAll(async () => {
  added = await openServer({});
  e2e = await startE2e({
    xds: true,
    names: ["added.test"],
    config: (config) => ({ ...config, admin_api: { admin_tokens: [token] } }),
  });
});
afterAll(async () => {
  await e2e?.close();
  await added?.close();
});

const stored = () => ({
  id: "added",
  from: "https://added.test",
  to: added.url,
  mcp: { server: { upstream_auth: { none: {} } } },
});

async function admin(
  method: string,
  path: string,
  body?: object,
  adminUrl = e2e.adminUrl,
): Promise<Response> {
  return fetch(`${adminUrl}/admin/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
}
/** Polls until every worker of Envoy and the gateway know, or no longer know, the route. */
async function until(status: number): Promise<void> {
  for (let inARow = 0; inARow < 20; ) {
    const answer = await throughEnvoy(e2e, { url: "https://added.test/x" });
    inARow = answer.status === status ? inARow + 1 : 0;
  }
}

/** The request with which a user connects the route. */
function connect() {
  const back = encodeURIComponent("https://added.test/");
  const url = `https://added.test/.pomerium/mcp/connect?redirect_url=${back}`;
  return throughEnvoy(e2e, { url });
}

describe("a stored route that Envoy does not know yet", () => {
  it("is 503 with Retry-After: a client that got a challenge would look for documents that Envoy does not serve", async () => {
    const behind = await startE2e({
      names: ["added.test"],
      config: (config) => ({ ...config, admin_api: { admin_tokens: [token] } }),
    });
    try {
      const created = await admin("POST", "/routes", stored(), behind.adminUrl);
      expect(created.status).toBe(201);
      // The documents, too: another Envoy may have sent a challenge.
      for (const path of ["/x", "/.well-known/oauth-protected-resource"]) {
        const answer = await throughEnvoy(behind, { url: `https://added.test${path}` });
        expect([answer.status, answer.header("retry-after")]).toEqual([503, "1"]);
        expect(answer.body).toContain("route_mismatch");
        expect(answer.header("www-authenticate")).toBeUndefined();
      }
    } finally {
      await behind.close();
    }
  });
});

describe("a stored route", () => {
  it("serves its first request through the running Envoy, without any restart", async () => {
    const { pid } = e2e.envoy;
    const sidecar = e2e.sidecar().pid;
    expect((await throughEnvoy(e2e, { url: "https://added.test/x" })).status).toBe(404);
    const created = await admin("POST", "/routes", stored());
    expect(await created.json()).toMatchObject({ id: "added", source: "database", in_force: true });
    expect(created.status).toBe(201);
    await until(401);
    const client = await e2e.client("alice", "https://added.test");
    const session = await client.connect();
    expect((await session.listTools()).tools.length).toBeGreaterThan(0);
    expect([e2e.envoy.pid, e2e.sidecar().pid]).toEqual([pid, sidecar]);
  });

  it("answers 404 and blocks connect while it is disabled, and works again afterwards", async () => {
    expect((await admin("PATCH", "/routes/added", { enabled: false })).status).toBe(200);
    await until(404);
    expect((await connect()).status).toBe(400);
    expect((await admin("PATCH", "/routes/added", { enabled: true })).status).toBe(200);
    await until(401);
    // Redirected to sign-in.
    expect((await connect()).status).toBe(302);
  });

  it("answers 503 while its credential is cleared, and is served again when it is set", async () => {
    const withKey = (value: string) => ({
      mcp: { server: { upstream_auth: { api_key: { header: "x-key", value } } } },
    });
    expect((await admin("PATCH", "/routes/added", withKey("k"))).status).toBe(200);
    const authorization = `Bearer ${await e2e.externalToken("alice", "https://added.test")}`;
    const ping = { method: "POST", body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }) };
    const headers = {
      ...{ authorization, "content-type": "application/json", accept: "application/json, text/event-stream" },
      "content-length": String(ping.body.length),
    };
    const call = () => throughEnvoy(e2e, { url: "https://added.test/", ...ping, headers });
    const cleared = await (await admin("PATCH", "/routes/added", withKey(""))).json();
    expect(cleared).toMatchObject({
      in_force: false,
      problems: [{ path: "mcp.server.upstream_auth.api_key.value" }],
    });
    const answer = await call();
    expect([answer.status, JSON.parse(answer.body).error, answer.header("retry-after")]).toEqual([
      ...[503, "credential_missing", "60"],
    ]);
    expect((await admin("PATCH", "/routes/added", withKey("k2"))).status).toBe(200);
    expect((await call()).status).not.toBe(503);
  });

  it("survives a restart of the gateway, and is gone after it is deleted", async () => {
    await e2e.restartSidecar();
    await until(401);
    expect((await admin("DELETE", "/routes/added")).status).toBe(204);
    await until(404);
    const audit = (await (await admin("GET", "/audit?until=2100-01-01")).text()).trim().split("\n");
    const actions = audit.map((line) => JSON.parse(line).action);
    expect(actions).toEqual(expect.arrayContaining(["route.created", "route.changed", "route.deleted"]));
  });
});
