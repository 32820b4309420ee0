import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Member } from "../system/aggregation/members/member.ts";
import { sessionsMember } from "../system/aggregation/members/sessions-member.ts";
import { startReplicas, type TestReplicas } from "./replicas.ts";

let notes: Member;
let counting: Server;
let replicas: TestReplicas;
const received: unknown[] = [];

beforeAll(async () => {
  notes = await sessionsMember("notes");
  counting = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    const { id, method } = text === "" ? {} : JSON.parse(text);
    received.push(method);
    if (id === undefined) {
      response.writeHead(request.method === "GET" ? 405 : 202).end();
      return;
    }
    const result =
      method === "initialize"
        ? {
            protocolVersion: "2025-11-25",
            capabilities: { tools: {} },
            serverInfo: { name: "c", version: "1" },
          }
        : { tools: [] };
    response.writeHead(200, { "content-type": "application/json", "mcp-session-id": "s" });
    response.end(JSON.stringify({ jsonrpc: "2.0", id, result }));
  });
  await new Promise<void>((resolve) => counting.listen(0, "127.0.0.1", resolve));
  const { port } = counting.address() as AddressInfo;
  replicas = await startReplicas(
    [
      { id: "notes", url: notes.url },
      { id: "counting", url: `http://127.0.0.1:${port}/mcp` },
    ],
    { count: 2 },
  );
});
afterAll(async () => {
  await replicas.close();
  await notes.close();
  counting.closeAllConnections();
  counting.close();
});

async function post(body: unknown, headers: Record<string, string> = {}, token = replicas.token) {
  const response = await fetch(replicas.url(), {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      ...headers,
    },
    body: JSON.stringify(body),
  });
  return { response, text: await response.text() };
}

/** A session that was initialized. @returns the headers of its requests */
async function sessionOf(protocolVersion: string): Promise<Record<string, string>> {
  const clientInfo = { name: "client", version: "1" };
  const params = { protocolVersion, capabilities: { roots: { listChanged: true } }, clientInfo };
  const { response } = await post({ jsonrpc: "2.0", id: 1, method: "initialize", params });
  const session = response.headers.get("mcp-session-id") ?? "";
  return { "mcp-session-id": session, "mcp-protocol-version": protocolVersion };
}
const batchOf = (messages: number, message: (n: number) => object) =>
  Array.from({ length: messages }, (_, n) => ({ jsonrpc: "2.0", ...message(n) }));

it("a user who opens many sessions leaves room for other users' calls that wait for answers", async () => {
  const ask = (token: string, client: number) => {
    const _meta = {
      "io.modelcontextprotocol/protocolVersion": "2026-07-28",
      "io.modelcontextprotocol/clientInfo": { name: `client ${client}`, version: "1" },
      "io.modelcontextprotocol/clientCapabilities": { elicitation: { form: {} } },
    };
    const name = "notes__ask";
    return post(
      { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name, arguments: {}, _meta } },
      { "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": name },
      token,
    );
  };
  const answers: string[] = [];
  for (let client = 0; client < 5; client++) {
    const calls = Array.from({ length: 8 }, () => ask("mallory/g2", client));
    answers.push(...(await Promise.all(calls)).map(({ text }) => text));
  }
  expect(answers.filter((text) => text.includes("input_required"))).toHaveLength(32);
  expect(answers.filter((text) => text.includes("Too many calls wait for answers"))).toHaveLength(8);
  expect((await ask("bob/g3", 0)).text).toContain("input_required");
});

it("a client that cancels thousands of unknown requests causes few messages to other replicas", async () => {
  const session = await sessionOf("2025-03-26");
  const before = replicas.sent.length;
  for (let n = 0; n < 40; n++) {
    const method = "notifications/cancelled";
    const batch = batchOf(64, (m) => ({
      method,
      params: { requestId: n * 64 + m, reason: "because ".repeat(50) },
    }));
    expect((await post(batch, session)).response.status).toBe(202);
  }
  const cancels = () => replicas.sent.slice(before);
  await expect.poll(() => cancels().length, { timeout: 60_000 }).toBeGreaterThan(0);
  expect(cancels().length).toBeLessThan(250);
  expect(JSON.stringify(cancels())).not.toContain("because");
  expect(await replicas.metrics.registry.metrics()).toMatch(/limit="aggregation_notifications"\} \d/);
});

it("answers with invented ids are not passed on", async () => {
  const session = await sessionOf("2025-03-26");
  const before = replicas.sent.length;
  const mac = "A".repeat(16);
  const answers = batchOf(20, (n) => ({
    id: `invented${n}.AAAAAAAAAAAA.1${n % 2 ? `.${mac}` : ""}`,
    result: {},
  }));
  expect((await post(answers, session)).response.status).toBe(202);
  const method = "notifications/progress";
  const progress = batchOf(20, (n) => ({
    ...{ method, params: { progressToken: `invented${n}.AAAAAAAAAAAA.1.${mac}`, progress: 1 } },
  }));
  expect((await post(progress, session)).response.status).toBe(202);
  const to = replicas.sent.slice(before).map((one) => one.to);
  expect(to.filter((replica) => replica.startsWith("invented"))).toEqual([]);
});

it("a client that reports changed roots again and again causes few requests to members", async () => {
  const session = await sessionOf("2025-03-26");
  await post({ jsonrpc: "2.0", id: 2, method: "tools/list" }, session);
  const method = "notifications/roots/list_changed";
  for (let n = 0; n < 20; n++)
    expect(
      (
        await post(
          batchOf(64, () => ({ method })),
          session,
        )
      ).response.status,
    ).toBe(202);
  const changes = () => received.filter((one) => one === method).length;
  await expect.poll(changes, { timeout: 60_000 }).toBeGreaterThan(0);
  expect(changes()).toBeLessThan(120);
});

it.each([
  ["2025-06-18", 1],
  ["2025-11-25", 1],
  ["2025-03-26", 65],
])("rejects JSON-RPC batches of %s with %i messages", async (revision, messages) => {
  const session = await sessionOf(revision);
  const batch = batchOf(messages, (id) => ({ id, method: "ping" }));
  const { response, text } = await post(batch, session);
  expect(response.status).toBe(400);
  expect(text).toContain("-32600");
});
