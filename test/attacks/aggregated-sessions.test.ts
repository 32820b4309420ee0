import { afterAll, beforeAll, expect, it } from "vitest";
import { type AggregateStack, startAggregateStack } from "../system/aggregation/aggregate-stack.ts";
import type { TestClient } from "../system/aggregation/clients.ts";
import type { Member } from "../system/aggregation/members/member.ts";
import { modernMember } from "../system/aggregation/members/modern-member.ts";
import { sessionsMember } from "../system/aggregation/members/sessions-member.ts";

/* A member is not trusted by other members, a client not by other clients. Through Envoy. */
let stack: AggregateStack;
let victim: Member;
let attacker: Member;
let alice: TestClient;
const url = "https://all.test";
beforeAll(async () => {
  victim = await sessionsMember("victim");
  attacker = await modernMember("attacker");
  stack = await startAggregateStack({
    members: {
      victim: { member: victim, route: { name: "Bank" } },
      attacker: { member: attacker, route: { name: "Games" } },
    },
    aggregates: { "all.test": { routes: ["victim", "attacker"] }, "other.test": { routes: ["victim"] } },
  });
  alice = await stack.connect("2025-11-25");
}, 120_000);
afterAll(async () => {
  await stack?.close();
  await victim?.close();
  await attacker?.close();
});

/** A request of this session, with this token. */
async function send(
  token: string,
  session: string | undefined,
  message: object,
  { method = "POST", to = url } = {},
): Promise<{ status: number; body: string }> {
  const response = await stack.fetch(`${to}/`, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": "2025-11-25",
      ...(session !== undefined && { "mcp-session-id": session }),
    },
    ...(method === "POST" && { body: JSON.stringify(message) }),
  });
  return { status: response.status, body: method === "GET" && response.ok ? "" : await response.text() };
}
const list = { jsonrpc: "2.0", id: 1, method: "tools/list" };

it("a session id is worth nothing to another person, another grant or at another route: 404", async () => {
  const session = alice.sessionId();
  const own = await stack.token("all.test");
  expect((await send(own, session, list)).status).toBe(200);
  const strangers = [
    await stack.token("all.test", "bob"),
    // Alice's other client: a grant of its own.
    await stack.externalToken("alice", url),
  ];
  for (const token of strangers) {
    expect((await send(token, session, list)).status).toBe(404);
    expect((await send(token, session, list, { method: "GET" })).status).toBe(404);
    expect((await send(token, session, list, { method: "DELETE" })).status).toBe(404);
  }
  const elsewhere = await stack.token("other.test");
  expect((await send(elsewhere, session, list, { to: "https://other.test" })).status).toBe(404);
  expect((await send(own, session, list)).status).toBe(200);
});

it("nobody else can answer a question, or cancel a call, even with its id", async () => {
  const bob = await stack.connect("2025-11-25", { user: "bob" });
  const abort = new AbortController();
  const call = alice.call("victim__wait", {}, { signal: abort.signal });
  call.catch(() => {});
  await victim.waiting();
  const bobs = await stack.token("all.test", "bob");
  for (let requestId = 0; requestId < 30; requestId++)
    await send(bobs, bob.sessionId(), {
      jsonrpc: "2.0",
      method: "notifications/cancelled",
      params: { requestId },
    });
  expect(victim.cancelled()).toBe(0);
  victim.finish();
  expect((await call).text).toBe("waited");
});

it("the token of an aggregated route is rejected by its members, and a member's token by the aggregated route", async () => {
  const aggregated = await stack.token("all.test");
  const direct = await stack.token("victim.members.test");
  expect((await send(aggregated, undefined, list, { to: "https://victim.members.test" })).status).toBe(401);
  expect((await send(direct, undefined, list)).status).toBe(401);
});

it("what a member receives is worth nothing at the other members' or the aggregated route", async () => {
  await alice.call("victim__whoami");
  await alice.call("attacker__whoami");
  const received = JSON.stringify(attacker.requests);
  expect(received.includes(await stack.token("all.test"))).toBe(false);
  expect(received.toLowerCase().includes('"authorization"')).toBe(false);
  // The identity assertion is there to be received, by this member only.
  const tokens = new Set(received.match(/eyJ[\w-]+\.[\w-]+\.[\w-]+/g));
  expect(tokens.size).toBeGreaterThan(0);
  for (const token of tokens)
    for (const to of [url, "https://victim.members.test", "https://attacker.members.test"])
      expect((await send(token, undefined, list, { to })).status).toBe(401);
});

it("a member sees nothing of another one's traffic: names, arguments, answers", async () => {
  const before = attacker.requests.length;
  await alice.call("victim__echo", { text: "the secret of victim" });
  await alice.call("victim__ask");
  await alice.read((await alice.listResources()).find(({ uri }) => uri.includes("victim"))?.uri ?? "");
  const seen = attacker.requests.slice(before).map(({ body }) => body);
  expect(seen.filter((body) => /the secret of victim|Alice|victim__|"ask"|memo:/.test(body))).toEqual([]);
});

it("a tool's name says which server runs it, and questions name the server that asks", async () => {
  const names = await alice.toolNames();
  for (const name of names) expect(name).toMatch(/^(victim|attacker)__/);
  const before = alice.asked.length;
  await alice.call("attacker__ask");
  await alice.call("attacker__sample");
  const [form, sampling] = alice.asked.slice(before);
  expect(form?.params.message).toMatch(/^\[Games\] /);
  expect(JSON.stringify(sampling?.params)).toContain("[Games] ");
});
