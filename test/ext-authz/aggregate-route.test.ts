import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createDenialAudit } from "../../src/ext-authz/check-service.ts";
import type { CheckDeps } from "../../src/ext-authz/check-types.ts";
import { signedCallHeader } from "../../src/external-tokens/signed-calls.ts";
import { hashedHandle } from "../../src/store/hashed-handle.ts";
import { issuer, startChecks } from "./start-checks.ts";

const yaml = `
issuer: ${issuer}
sign_in: {providers: [{id: idp, issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - {id: a, from: https://a.test, to: http://127.0.0.1:1, policy: {allow: {and: [{source_ip: 192.0.2.1}]}}, mcp: {server: {upstream_auth: none}}}
  - {id: app, from: https://app.test, to: http://127.0.0.1:2, mcp: {client: {}}}
  - {id: all, from: https://all.test, tools: {deny: [a__drop]}, mcp: {aggregate: {routes: [a]}}}
`;
const list = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list" });
const called = (name: string) =>
  JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name, arguments: {} } });

describe("a check of an aggregated route", () => {
  let checks: Awaited<ReturnType<typeof startChecks>>;
  let record: CheckDeps["onDenial"];
  beforeAll(async () => {
    checks = await startChecks(yaml, {
      onDenial: (...denial) => record?.(...denial),
      sessionFromCookieHeader: () => ({
        ...{ userId: "idp/alice", groups: [], claims: {} },
        ...{ sessionName: "s", sessionExpiresAt: Date.now() / 1000 + 3600 },
      }),
    });
    record = createDenialAudit(checks);
  });
  afterAll(() => checks?.close());
  const ask = (token: string, body = list, url = "https://all.test/") =>
    checks.ask({
      url,
      body,
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
        "mcp-session-id": "s",
        [signedCallHeader]: "forged",
      },
    });

  it("removes the external token and sets the signed call, without a credential or an assertion", async () => {
    const token = await checks.token({ aud: "https://all.test" });
    const answer = await ask(token);
    expect(answer.status).toBe(0);
    expect(Object.keys(answer.set)).toEqual([signedCallHeader]);
    expect(answer.removed).toContain("authorization");
    expect(answer.removed).not.toContain("mcp-session-id");
    const value = answer.set[signedCallHeader] ?? "";
    expect(value).not.toContain("forged");
    expect(checks.signedCalls.read(value)).toMatchObject({
      routeId: "all",
      method: "POST",
      path: "/",
      caller: { userId: "idp/alice", clientId: "client-1", kind: "person" },
    });
    expect(JSON.stringify(answer.metadata)).not.toContain(value);
  });

  it("applies the route's own tool policy to prefixed names, and its filter to lists", async () => {
    const token = await checks.token({ aud: "https://all.test" });
    expect((await ask(token, called("a__drop"))).body).toContain("a__drop");
    expect((await ask(token, called("a__get"))).status).toBe(0);
    expect((await ask(token)).metadata).toMatchObject({ tool_filter: expect.any(String) });
  });

  it("challenges a caller without a token with the metadata of the aggregated route", async () => {
    const answer = await checks.ask({ url: "https://all.test/" });
    expect(answer.status).toBe(401);
    expect(answer.headers["www-authenticate"]).toContain(
      "https://all.test/.well-known/oauth-protected-resource",
    );
  });

  it("denies an application's token, which belongs to no grant, and says what to do", async () => {
    const id = "session-of-the-application";
    const [createdAt, expiresAt] = [new Date(), new Date(Date.now() + 3_600_000)];
    await checks.store.browserSessions.create({
      ...{ id, userId: "idp/alice", host: "app.test", createdAt, expiresAt },
    });
    const app = checks.routes().byId("app");
    if (!app) throw new Error("no route");
    const token = await checks.externalTokens.forSession(
      { userId: "idp/alice", sessionName: hashedHandle(id), sessionExpiresAt: expiresAt.getTime() / 1000 },
      app,
      ["https://all.test", "https://a.test"],
    );
    const answer = await ask(token);
    expect([answer.status, JSON.parse(answer.body).error]).toEqual([403, "no_credential"]);
    expect(answer.body).toContain("call each of them at its own URL");
  });

  it("removes a client's signed call and Envoy's secret from requests to members and applications, whatever Envoy does", async () => {
    const forged = {
      [signedCallHeader]: "forged",
      "x-mcp-auth-secret": "forged",
      cookie: "c=1",
      "content-type": "application/json",
    };
    const app = await checks.ask({ url: "https://app.test/", method: "GET", headers: forged });
    const authorization = `Bearer ${await checks.token({ aud: "https://all.test" })}`;
    const all = await checks.ask({
      url: "https://all.test/",
      headers: { ...forged, authorization },
      body: list,
    });
    expect([app.status, all.status]).toEqual([0, 0]);
    expect(app.removed).toEqual(expect.arrayContaining([signedCallHeader, "x-mcp-auth-secret"]));
    expect(all.removed).toContain("x-mcp-auth-secret");
  });

  it("names the aggregated route in the log line and the audit event of a member's check", async () => {
    const route = checks.routes().byId("all");
    const member = checks.routes().byId("a");
    if (!route || !member) throw new Error("no route");
    const grantId = "grant-of-all";
    await checks.token({ aud: "https://all.test" }, { grantId });
    const caller = { userId: "idp/alice", clientId: "client-1", grantId, scopes: [] };
    const at = (sourceIp: string) => checks.externalTokens.forMember({ route, caller, sourceIp }, member);
    expect((await ask(await at("192.0.2.1"), list, "https://a.test/")).status).toBe(0);
    expect((await ask(await at("192.0.2.2"), list, "https://a.test/")).status).toBe(403);
    const lines = checks.log.map((line) => JSON.parse(line));
    expect(lines).toContainEqual(expect.objectContaining({ decision: "allow", route: "a", via: "all" }));
    expect(lines).toContainEqual(expect.objectContaining({ decision: "deny", route: "a", via: "all" }));
    const denied = () => checks.store.auditEvents({ action: "policy.denied", limit: 10 });
    await expect
      .poll(denied, { timeout: 60_000 })
      .toContainEqual(
        expect.objectContaining({ routeId: "a", grantId, detail: expect.objectContaining({ via: "all" }) }),
      );
  });
});
