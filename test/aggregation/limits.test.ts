import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, it } from "vitest";
import { createSession } from "../../src/aggregation/session.ts";
import { Places } from "../../src/util/at-once.ts";
import { startReplicas, type TestMember, type TestReplicas } from "./replicas.ts";

interface Rpc {
  readonly id?: number;
  readonly method?: string;
  readonly params?: { readonly cursor?: string; readonly name?: string };
}
type Answer = { readonly result: object } | { readonly error: object } | undefined;

const cleanups: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

/** A member that says what a test wants; what is undefined is never answered. */
async function evilMember(answer: (message: Rpc) => Answer, initialize: object | "never" = {}) {
  const seen: { readonly method: string; readonly message: Rpc; readonly headers: IncomingHttpHeaders }[] =
    [];
  const server = createServer(async (req, res): Promise<unknown> => {
    const text = (await req.toArray()).join("");
    const message: Rpc = text ? JSON.parse(text) : {};
    seen.push({ method: String(req.method), message, headers: req.headers });
    if (message.id === undefined) return res.writeHead(req.method === "GET" ? 405 : 202).end();
    const first = { protocolVersion: "2025-11-25", capabilities: { tools: {} } };
    const opened = { result: { ...first, serverInfo: { name: "m", version: "1" }, ...Object(initialize) } };
    if (message.method === "initialize" && initialize === "never") return undefined;
    const body = message.method === "initialize" ? opened : answer(message);
    if (body === undefined) return undefined;
    res.writeHead(200, { "content-type": "application/json", "mcp-session-id": `s${seen.length}` });
    return res.end(JSON.stringify({ jsonrpc: "2.0", id: message.id, ...body }));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`, seen };
}

async function serving(members: readonly TestMember[]) {
  const replicas = await startReplicas(members);
  cleanups.push(() => replicas.close());
  return replicas;
}

const tool = (name: string, description = "") => ({ name, description, inputSchema: { type: "object" } });
const noTools = () => ({ result: { tools: [] } });

function post(replicas: TestReplicas, token: string, session: string, body: object, signal?: AbortSignal) {
  return fetch(replicas.url(), {
    method: "POST",
    ...(signal ? { signal } : {}),
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      ...(session ? { "mcp-session-id": session, "mcp-protocol-version": "2025-11-25" } : {}),
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, ...body }),
  });
}

const initialize = (replicas: TestReplicas, token = "alice/g1", capabilities: object = {}) =>
  post(replicas, token, "", {
    method: "initialize",
    params: {
      protocolVersion: "2025-11-25",
      capabilities,
      clientInfo: { name: "client", version: "1" },
    },
  });

async function begin(replicas: TestReplicas, token?: string, capabilities?: object): Promise<string> {
  const response = await initialize(replicas, token, capabilities);
  await response.text();
  return String(response.headers.get("mcp-session-id"));
}

async function ask(replicas: TestReplicas, session: string, method: string, params: object = {}) {
  const text = await (await post(replicas, "alice/g1", session, { method, params })).text();
  const { result, error } = JSON.parse(/^data: (\{.*)$/m.exec(text)?.[1] ?? text);
  return { result, error, length: text.length };
}

async function reached(replicas: TestReplicas, limit: string): Promise<number> {
  const { values } = await replicas.metrics.limitsReached.get();
  return values.find(({ labels }) => labels.limit === limit)?.value ?? 0;
}

it("what a member or a client declares does not fill the session", async () => {
  const chatty = await evilMember(() => ({ result: { tools: [tool("a")] } }), {
    capabilities: { tools: {}, experimental: { x: { y: "x".repeat(10_000_000) } } },
  });
  const endless = await evilMember(() => ({ result: { tools: [tool("b")] } }), {
    // Six bytes each in JSON.
    instructions: "\u0001".repeat(8_192),
  });
  const replicas = await serving([
    { id: "chatty", url: chatty.url },
    { id: "endless", url: endless.url },
  ]);
  const session = await begin(replicas);
  const { result } = await ask(replicas, session, "tools/list");
  expect(result.tools.map(({ name }: { name: string }) => name)).toEqual(["chatty__a"]);
  expect(JSON.stringify(replicas.rows.get(session)?.state).length).toBeLessThan(32_768);
  await expect.poll(() => endless.seen.map(({ method }) => method), { timeout: 60_000 }).toContain("DELETE");

  const long = await initialize(replicas, "alice/g1", { experimental: { x: { y: "x".repeat(65_536) } } });
  expect(long.status).toBe(400);
  expect(await long.text()).toContain("initialize is longer than 65536 bytes");
});

it("a client can set the levels that there are, and subscribe to URIs of a limited length", async () => {
  const { url } = await evilMember(noTools);
  const replicas = await serving([{ id: "notes", url }]);
  const session = await begin(replicas);
  expect((await ask(replicas, session, "logging/setLevel", { level: "x" })).error).toMatchObject({
    code: -32_602,
    message: expect.stringContaining("debug"),
  });
  expect((await ask(replicas, session, "logging/setLevel", { level: "debug" })).error).toBeUndefined();
  const uri = `notes+memo://${"x".repeat(4_096)}`;
  expect((await ask(replicas, session, "resources/subscribe", { uri })).error).toMatchObject({
    code: -32_602,
    message: expect.stringContaining("4096 bytes"),
  });
});

it("a session is never longer than a mebibyte", async () => {
  const writes: string[] = [];
  const store = {
    create: async () => {
      writes.push("create");
      return [];
    },
    update: async () => writes.push("update") > 0,
    find: async () => undefined,
    versions: async () => new Map(),
    remove: async () => true,
  };
  const owner = { userId: "alice", grantId: "g1", routeId: "all" };
  const state = { stateKey: "k", members: {} };
  const { session } = await createSession(store, "h1", owner, { ...state, subscriptions: [] });
  const full = { ...state, subscriptions: ["x".repeat(1_048_576)] };
  await expect(session.change(() => full)).rejects.toThrow("This session is full");
  await expect(createSession(store, "h2", owner, full)).rejects.toThrow("This session is full");
  expect(await session.change((now) => ({ ...now, logLevel: "debug" }))).toBe(true);
  expect(writes).toEqual(["create", "update"]);
});

it("a member's error and the links in it name the member, and its code stays", async () => {
  const link = { mode: "url", url: "https://evil.test/", elicitationId: "e", message: "Connect GitHub" };
  const { url } = await evilMember(({ method }) =>
    method === "tools/call"
      ? { error: { code: -32_042, message: "GitHub is not connected", data: { elicitations: [link] } } }
      : { error: { code: -32_001, message: "Not today", data: { why: "rain" } } },
  );
  const replicas = await serving([
    { id: "evil", name: "Evil", url },
    { id: "github", url },
  ]);
  const call = { name: "evil__x", arguments: {} };
  const able = await begin(replicas, "alice/g1", { elicitation: { url: {}, form: {} } });
  expect((await ask(replicas, able, "tools/call", call)).error).toEqual({
    code: -32_042,
    message: "[Evil] GitHub is not connected",
    data: { elicitations: [{ ...link, message: "[Evil] Connect GitHub" }] },
  });
  const unable = await begin(replicas, "alice/g1", { elicitation: { form: {} } });
  expect((await ask(replicas, unable, "tools/call", call)).error).toMatchObject({
    code: -32_042,
    data: { elicitations: [] },
  });
  expect((await ask(replicas, able, "prompts/get", { name: "evil__x" })).error).toEqual({
    code: -32_001,
    message: "[Evil] Not today",
    data: { why: "rain" },
  });
});

it("a person has a limited number of requests at once; others are served", async () => {
  const hanging = await evilMember(({ method }) => (method === "tools/list" ? noTools() : undefined));
  const replicas = await serving([{ id: "notes", url: hanging.url }]);
  const bob = await begin(replicas, "bob/g2");
  const sessions = await Promise.all(Array.from({ length: 5 }, () => begin(replicas)));
  const last = String(sessions.pop());
  const stop = new AbortController();
  const params = { name: "notes__wait", arguments: {} };
  const calls = sessions.flatMap((session) =>
    Array.from({ length: 64 }, (_, id) =>
      post(replicas, "alice/g1", session, { id, method: "tools/call", params }, stop.signal).then(
        (response) => response.text(),
        () => {},
      ),
    ),
  );
  const called = () => hanging.seen.filter(({ message }) => message.method === "tools/call").length;
  await expect.poll(called, { timeout: 60_000 }).toBe(256);
  const list = (token: string, session: string) =>
    post(replicas, token, session, { method: "tools/list", params: {} });
  const beyond = await list("alice/g1", last);
  expect(beyond.status).toBe(429);
  expect(beyond.headers.get("retry-after")).toBe("1");
  expect(await reached(replicas, "aggregated_requests_per_user")).toBe(1);
  expect((await list("bob/g2", bob)).status).toBe(200);
  stop.abort();
  await Promise.allSettled(calls);
  await expect.poll(async () => (await list("alice/g1", last)).status, { timeout: 60_000 }).toBe(200);
});

it("a session has a limited number of requests at once; other sessions of its user are served", async () => {
  const hanging = await evilMember(({ method }) => (method === "tools/list" ? noTools() : undefined));
  const replicas = await serving([{ id: "notes", url: hanging.url }]);
  const [session, other] = [await begin(replicas), await begin(replicas)];
  const stop = new AbortController();
  const params = { name: "notes__wait", arguments: {} };
  const calls = Array.from({ length: 64 }, (_, id) =>
    post(replicas, "alice/g1", session, { id, method: "tools/call", params }, stop.signal).then(
      (response) => response.text(),
      () => {},
    ),
  );
  const called = () => hanging.seen.filter(({ message }) => message.method === "tools/call").length;
  await expect.poll(called, { timeout: 60_000 }).toBe(64);
  const list = (of: string) => post(replicas, "alice/g1", of, { method: "tools/list", params: {} });
  const beyond = await list(session);
  expect([beyond.status, beyond.headers.get("retry-after")]).toEqual([429, "1"]);
  expect(await beyond.text()).toContain("Too many requests of this session");
  expect(await reached(replicas, "aggregated_requests_per_session")).toBe(1);
  expect((await list(other)).status).toBe(200);
  stop.abort();
  await Promise.allSettled(calls);
});

it("what waits for a place gets it in turn, unless it gives up or another of its user must go first", async () => {
  const places = new Places(2);
  const [alice, bob] = [
    { key: "alice", max: 1 },
    { key: "bob", max: 1 },
  ];
  const { signal } = new AbortController();
  const gone = new AbortController();
  const first = await places.wait(signal, alice);
  const entered: string[] = [];
  const givesUp = places.wait(gone.signal, alice);
  const waits = places.wait(signal, alice).then((leave) => {
    entered.push("alice");
    return leave;
  });
  gone.abort(new Error("gone"));
  await expect(givesUp).rejects.toThrow("gone");
  expect(places.take(alice)).toBeUndefined();
  const other = await places.wait(signal, bob);
  expect(entered).toEqual([]);
  first();
  first();
  const second = await waits;
  expect(places.take({ key: "carol", max: 1 })).toBeUndefined();
  other();
  second();
  expect(places.take(alice)).toBeDefined();
});

it("clients of a person begin a limited number of sessions within a minute", async () => {
  const { url } = await evilMember(noTools);
  const replicas = await serving([{ id: "notes", url }]);
  const begun = await Promise.all(Array.from({ length: 121 }, (_, n) => initialize(replicas, `alice/g${n}`)));
  const rejected = begun.filter(({ status }) => status === 429);
  expect(rejected.length).toBe(1);
  expect(Number(rejected[0]?.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(await reached(replicas, "aggregated_sessions_per_user")).toBe(1);
  expect((await initialize(replicas, "bob/g2")).status).toBe(200);
});

it("a session that is dropped for a newer one ends its sessions with members", async () => {
  const member = await evilMember(noTools);
  const replicas = await serving([{ id: "notes", url: member.url }]);
  const session = await begin(replicas);
  await ask(replicas, session, "tools/list");
  const row = replicas.rows.get(session);
  if (row === undefined) throw new Error("no session");
  for (let n = 1; n < 32; n += 1)
    replicas.rows.set(`h${n}`, { ...row, handle: `h${n}`, expiresAt: new Date(Date.now() * 2) });
  const { members } = row.state as { members: { notes: { sessionId: string } } };
  await begin(replicas);
  expect(replicas.rows.has(session)).toBe(false);
  const ended = () =>
    member.seen.flatMap(({ method, headers }) => (method === "DELETE" ? [headers["mcp-session-id"]] : []));
  await expect.poll(ended, { timeout: 60_000 }).toContain(members.notes.sessionId);
});

it("an endless list is cut, long entries are left out, and pages stay short", async () => {
  const text = "x".repeat(200_000);
  const endless = await evilMember(({ params }) => {
    const page = Number(params?.cursor ?? 0);
    const names = [0, 1, 2, 3, 4].map((n) => tool(`t${page}-${n}`, text));
    const tools = page === 0 ? [tool("long", "x".repeat(300_000)), ...names] : names;
    return { result: { tools, nextCursor: String(page + 1) } };
  });
  const small = await evilMember(() => ({ result: { tools: [tool("last")] } }));
  const replicas = await serving([
    { id: "endless", url: endless.url },
    { id: "small", url: small.url },
  ]);
  const session = await begin(replicas);
  const names: string[] = [];
  let cursor: string | undefined;
  do {
    const before = endless.seen.length;
    const { result, length } = await ask(replicas, session, "tools/list", cursor ? { cursor } : {});
    expect(length).toBeLessThan(1_300_000);
    expect(endless.seen.length - before).toBeLessThan(10);
    names.push(...result.tools.map(({ name }: { name: string }) => name));
    cursor = result.nextCursor;
  } while (cursor !== undefined);
  expect(names).not.toContain("endless__long");
  expect(names.at(-1)).toBe("small__last");
  expect(names.length).toBeGreaterThan(15);
  expect(names.length * text.length).toBeLessThan(4_400_000);
  expect(new Set(names).size).toBe(names.length);
  expect(await reached(replicas, "aggregated_list_bytes")).toBeGreaterThan(0);
});

it("a new session opens sessions with a limited number of members at once", async () => {
  const hanging = await evilMember(noTools, "never");
  const members = Array.from({ length: 40 }, (_, n) => ({ id: `m${n}`, url: hanging.url }));
  const replicas = await serving(members);
  expect((await initialize(replicas)).status).toBe(200);
  expect(hanging.seen.length).toBe(16);
});
