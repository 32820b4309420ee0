import { afterAll, beforeAll, expect, it } from "vitest";
import { startReplicas, type TestReplicas } from "../aggregation/replicas.ts";
import { connect } from "../system/aggregation/clients.ts";
import type { Member } from "../system/aggregation/members/member.ts";
import { modernMember } from "../system/aggregation/members/modern-member.ts";
import { sessionsMember } from "../system/aggregation/members/sessions-member.ts";

let notes: Member;
let modern: Member;
let replicas: TestReplicas;

beforeAll(async () => {
  [notes, modern] = await Promise.all([sessionsMember("notes"), modernMember("modern")]);
  replicas = await startReplicas([
    { id: "notes", name: "Notes", url: notes.url },
    { id: "modern", name: "Modern", url: modern.url },
  ]);
});
afterAll(async () => {
  await replicas.close();
  await notes.close();
  await modern.close();
});

/** One request of a client of 2026-07-28. */
async function send(
  token: string,
  method: string,
  params: object,
): Promise<{ result?: Asked; error?: { code: number } }> {
  const name = "name" in params ? String(params.name) : "";
  const response = await fetch(replicas.url(), {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": "2026-07-28",
      "mcp-method": method,
      "mcp-name": name,
    },
    body: JSON.stringify({
      jsonrpc: "2.0",
      id: 1,
      method,
      params: {
        ...params,
        _meta: {
          "io.modelcontextprotocol/protocolVersion": "2026-07-28",
          "io.modelcontextprotocol/clientInfo": { name: "test", version: "1" },
          "io.modelcontextprotocol/clientCapabilities": { elicitation: { form: {} } },
        },
      },
    }),
  });
  const text = await response.text();
  const line = text.split("\n").find((one) => one.startsWith("data: ")) ?? `data: ${text}`;
  return JSON.parse(line.slice("data: ".length));
}

interface Asked {
  readonly resultType: string;
  readonly requestState: string;
  readonly inputRequests: Record<string, { params: { message: string } }>;
  readonly content: unknown;
}

it.each(["notes", "modern"])(
  "the state of a question of %s is valid for its user, grant and call only, and cannot be changed",
  async (id) => {
    const name = `${id}__ask`;
    const { result } = await send("alice/g1", "tools/call", { name });
    expect(result?.resultType).toBe("input_required");
    const [key = ""] = Object.keys(result?.inputRequests ?? {});
    const retry = {
      name,
      requestState: result?.requestState,
      inputResponses: { [key]: { action: "accept", content: { name: "Alice" } } },
    };
    const rejected = { error: { code: -32602 } };
    for (const token of ["bob/g1", "alice/g2"])
      expect(await send(token, "tools/call", retry)).toMatchObject(rejected);
    expect(await send("alice/g1", "tools/call", { ...retry, name: `${id}__ask_url` })).toMatchObject(
      rejected,
    );
    const changed = `${result?.requestState.slice(0, -2)}AA`;
    expect(await send("alice/g1", "tools/call", { ...retry, requestState: changed })).toMatchObject(rejected);
    const done = await send("alice/g1", "tools/call", retry);
    expect(JSON.stringify(done.result?.content)).toContain("Alice");
  },
);

it("another user, who knows the id of a question, cannot answer it", async () => {
  const question = Promise.withResolvers<string>();
  const attacked = Promise.withResolvers<void>();
  const alice = await connect("2025-11-25", {
    url: replicas.url(),
    token: "alice/g1",
    async fetch(input, init) {
      const { id, result } = JSON.parse(typeof init?.body === "string" ? init.body : "{}");
      if (result?.action) {
        question.resolve(id);
        await attacked.promise;
      }
      return fetch(input, init);
    },
  });
  const bob = await connect("2025-11-25", { url: replicas.url(), token: "bob/g9", fetch });
  const call = alice.call("notes__ask");
  const answer = { action: "accept", content: { name: "Bob" } };
  const post = await fetch(replicas.url(), {
    method: "POST",
    headers: {
      authorization: "Bearer bob/g9",
      "mcp-session-id": String(bob.sessionId()),
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: await question.promise, result: answer }),
  });
  expect(post.status).toBe(202);
  attacked.resolve();
  expect(JSON.parse((await call).text)).toMatchObject({ content: { name: "Alice" } });
  await alice.close();
  await bob.close();
});

it("no member sees the session of the client, the names of others, or their requests", async () => {
  const alice = await connect("2025-11-25", { url: replicas.url(), token: "alice/g1", fetch });
  await alice.call("notes__echo", { text: "for notes" });
  await alice.call("modern__echo", { text: "for modern" });
  const session = String(alice.sessionId());
  const seen = (member: Member) => JSON.stringify(member.requests);
  expect(seen(notes)).toContain("for notes");
  expect(seen(modern)).toContain("for modern");
  for (const [member, other] of [
    [notes, "modern"],
    [modern, "notes"],
  ] as const) {
    expect(seen(member)).not.toContain(session);
    expect(seen(member)).not.toContain(`${other}__`);
    expect(seen(member)).not.toContain(`for ${other}`);
  }
  await alice.close();
});
