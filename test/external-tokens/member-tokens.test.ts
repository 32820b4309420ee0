import { decodeJwt } from "jose";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { createExternalTokens } from "../../src/external-tokens/create-external-tokens.ts";
import type { Route } from "../../src/model/route.ts";
import { startChecks } from "../ext-authz/start-checks.ts";

const yaml = `
issuer: https://auth.test
sign_in: {providers: [{id: idp, issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - {id: a, from: https://a.test, to: http://127.0.0.1:1, mcp: {server: {upstream_auth: none}}}
  - {id: b, from: https://b.test/mcp, to: http://127.0.0.1:2, mcp: {server: {upstream_auth: none}}}
  - {id: c, from: https://c.test, to: http://127.0.0.1:2, mcp: {server: {upstream_auth: none}}}
  - {id: all, from: https://all.test, mcp: {aggregate: {routes: [a, b]}}}
`;
let checks: Awaited<ReturnType<typeof startChecks>>;
const route = (id: string): Route => {
  const found = checks.routes().byId(id);
  if (!found) throw new Error(`no route ${id}`);
  return found;
};
beforeAll(async () => {
  checks = await startChecks(yaml);
});
afterAll(() => checks?.close());
beforeEach(() => {
  checks.clock.offset = 0;
});

let grants = 0;
async function holder(sourceIp?: string) {
  grants += 1;
  const grantId = `grant-of-aggregate-${grants}`;
  await checks.token({ aud: "https://all.test" }, { grantId });
  const caller = { userId: "idp/alice", clientId: "client-1", grantId, scopes: ["mcp"] };
  return { route: route("all"), caller, ...(sourceIp !== undefined && { sourceIp }) };
}
const mint = (...given: Parameters<typeof checks.externalTokens.forMember>) =>
  checks.externalTokens.forMember(...given);

test("a member's token names the member, the grant and the caller's address, and nothing else about the person", async () => {
  const call = await holder("192.0.2.1");
  const { iat = 0, jti, ...claims } = decodeJwt(await mint(call, route("b")));
  expect(jti).toMatch(/^[0-9a-f-]{36}$/);
  expect(claims).toEqual({
    iss: "https://auth.test",
    sub: "idp/alice",
    aud: "https://b.test/mcp",
    client_id: "client-1",
    grant_id: call.caller.grantId,
    scope: "mcp",
    refreshable: false,
    via: { route: "all", source_ip: "192.0.2.1" },
    exp: iat + 300,
  });
});

test("its caller is the person, called through the aggregated route, and cannot refresh it", async () => {
  const call = await holder("2001:db8::1");
  expect(await checks.externalTokens.verify(await mint(call, route("a")), route("a"))).toMatchObject({
    ok: true,
    caller: {
      userId: "idp/alice",
      email: "alice@example.com",
      grantId: call.caller.grantId,
      refreshable: false,
      via: { aggregate: "all", sourceIp: "2001:db8::1" },
    },
  });
});

test("it is reused for half of its life, by the same grant, member and address", async () => {
  const call = await holder("192.0.2.1");
  const first = await mint(call, route("a"));
  expect(await mint(call, route("a"))).toBe(first);
  const others = [
    await mint(call, route("b")),
    await mint({ ...call, sourceIp: "192.0.2.2" }, route("a")),
    await mint(await holder("192.0.2.1"), route("a")),
  ];
  expect(new Set([first, ...others]).size).toBe(4);
  checks.clock.offset = 151_000;
  const next = await mint(call, route("a"));
  expect(next).not.toBe(first);
  expect(await checks.externalTokens.verify(first, route("a"))).toMatchObject({ ok: true });
  checks.clock.offset = 400_000;
  expect(await checks.externalTokens.verify(first, route("a"))).toMatchObject({ rejection: "expired" });
});

test("there is none for a route that is not a member", async () => {
  const call = await holder();
  await expect(mint(call, route("c"))).rejects.toThrow("c is not a member of all");
  await expect(mint({ ...call, route: route("a") }, route("b"))).rejects.toThrow("not a member");
});

test("it is dropped from the cache when its grant ends", async () => {
  const call = await holder();
  const { grantId } = call.caller;
  const first = await mint(call, route("a"));
  await checks.store.authorizationServerRecords.revokeGrant(grantId, { action: "grant.revoked", grantId });
  await expect.poll(() => mint(call, route("a")), { timeout: 60_000 }).not.toBe(first);
  expect(await checks.externalTokens.verify(first, route("a"))).toMatchObject({ rejection: "revoked" });
});

test("it is valid at a member that the person has allowed for the grant only", async () => {
  const call = await holder();
  const granted = new Set(["a"]);
  for (const grantedMembers of [() => granted, async () => granted]) {
    const tokens = createExternalTokens({ ...checks, grantedMembers, fetch });
    const verified = async (id: string) => tokens.verify(await mint(call, route(id)), route(id));
    expect(await verified("a")).toMatchObject({ ok: true });
    expect(await verified("b")).toMatchObject({ ok: false, rejection: "revoked" });
    granted.add("b");
    expect(await verified("b")).toMatchObject({ ok: true });
    granted.delete("b");
    const own = await checks.token({ aud: "https://b.test/mcp" });
    expect(await tokens.verify(own, route("b"))).toMatchObject({ ok: true });
    tokens.close();
  }
});

test("the audit trail has one event per grant and member, which names the aggregated route", async () => {
  const call = await holder("192.0.2.1");
  await mint(call, route("a"));
  await mint({ ...call, sourceIp: "192.0.2.9" }, route("a"));
  await mint(call, route("b"));
  const issued = async () => {
    const events = await checks.store.auditEvents({ action: "external_token.issued", limit: 1000 });
    return events.filter(({ grantId }) => grantId === call.caller.grantId);
  };
  await expect.poll(issued, { timeout: 60_000 }).toHaveLength(2);
  // Written in the background, in either order.
  const expected = ["a", "b"].map((routeId) =>
    expect.objectContaining({ routeId, userId: "idp/alice", clientId: "client-1", detail: { via: "all" } }),
  );
  expect(await issued()).toEqual(expect.arrayContaining(expected));
});
