import { once } from "node:events";
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { createServer as createTcpServer, type Server } from "node:net";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../../dev/demo/free-port.ts";
import { type Listener, listen } from "../../dev/demo/listen.ts";
import { startGateway } from "../ext-proc/start-gateway.ts";
import { openThroughEnvoy, type RawAnswer, throughEnvoy } from "../support/through-envoy.ts";

/** An upstream's response headers and bodies, and how they arrive through a real Envoy. */
let gateway: Awaited<ReturnType<typeof startGateway>>;
let upstream: RequestListener;
let received: IncomingMessage;
const twins: Listener[] = [];
let resets: Server;
const asked = [0, 0];

const host = () => new URL(gateway.upstream).host;
const json = { "content-type": "application/json" };

/** An MCP server that keeps its sessions in memory, like two replicas behind one route. */
function sessionServer(number: number): RequestListener {
  const sessions = new Set<string>();
  return async (request, response) => {
    const body = request.method === "POST" ? JSON.parse(await text(request)) : {};
    asked[number] = (asked[number] ?? 0) + 1;
    const session = request.headers["mcp-session-id"];
    if (body.method === "initialize") {
      const id = `session-${number}-${sessions.size}`;
      sessions.add(id);
      response.writeHead(200, { ...json, "mcp-session-id": id }).end("{}");
    } else response.writeHead(sessions.has(String(session)) ? 200 : 404, json).end("{}");
  };
}

beforeAll(async () => {
  twins.push(await listen(sessionServer(0)), await listen(sessionServer(1)));
  resets = createTcpServer((socket) => socket.once("data", () => socket.resetAndDestroy()));
  resets.listen(0, "127.0.0.1");
  await once(resets, "listening");
  const address = resets.address();
  const resetting = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
  const nobody = `http://127.0.0.1:${await freePort()}`;
  gateway = await startGateway({
    upstream: (request, response) => {
      received = request;
      upstream(request, response);
    },
    upstreamRejected: async () => ({ kind: "consent", scopes: [], reason: "refused" }),
    more: {
      names: ["shared.test", "legacy.test"],
      mostWatchedStreams: 16,
      limits: { tool_list_bytes: 65_536 },
      routes: (url) => [
        { id: "team", from: "https://shared.test/team", to: `${url}/api`, mcp: { server: {} } },
        { id: "kept", from: "https://shared.test/kept", to: url, mcp: { server: {} } },
        {
          id: "policed",
          from: "https://shared.test/policed",
          to: `${url}/api`,
          mcp: { server: { tools: { deny: ["secret"] } } },
        },
        { id: "sse", from: "https://legacy.test", to: `${url}/old/sse`, mcp: { server: {} } },
        {
          id: "twins",
          from: "https://shared.test/twins",
          to: twins.map((one) => one.url),
          mcp: { server: {} },
        },
        {
          id: "half",
          from: "https://shared.test/half",
          to: [nobody, ...twins.map((one) => one.url)],
          mcp: { server: {} },
        },
        {
          id: "mostly-down",
          from: "https://shared.test/mostly-down",
          to: [nobody, nobody.replace("127.0.0.1", "127.0.0.2"), ...twins.slice(1).map((one) => one.url)],
          mcp: { server: {} },
        },
        {
          id: "pathed",
          from: "https://shared.test/pathed",
          to: `${url}/api`,
          policy: [
            { allow: { and: [{ accept: true }] } },
            { deny: { or: [{ http_path: { starts_with: "/admin" } }] } },
          ],
          mcp: { server: {} },
        },
        { id: "nobody", from: "https://shared.test/nobody", to: nobody, mcp: { server: {} } },
        { id: "resets", from: "https://shared.test/resets", to: resetting, mcp: { server: {} } },
        {
          id: "plain",
          from: "https://shared.test/plain",
          to: url.replace("http:", "https:"),
          mcp: { server: {} },
        },
        {
          id: "unnamed",
          from: "https://shared.test/unnamed",
          to: "http://nowhere.invalid",
          mcp: { server: {} },
        },
      ],
    },
  });
});
beforeAll(() => gateway.signedIn({ userId: "idp/bob", subject: "bob" }));
afterAll(async () => {
  await gateway?.close();
  for (const twin of twins) await twin.close();
  resets?.close();
});

/** The resource of a URL's route. */
function resource(url: string): string {
  const { hostname, origin, pathname } = new URL(url);
  return hostname === "shared.test" ? `${origin}/${pathname.split("/")[1]}` : origin;
}
async function ask(
  url: string,
  request: { method?: string; headers?: Record<string, string>; body?: string; claims?: object } = {},
): Promise<RawAnswer> {
  const token = await gateway.tokenFor(resource(url), request.claims);
  return throughEnvoy(gateway.address, {
    url,
    ...request,
    headers: { authorization: `Bearer ${token}`, ...request.headers },
  });
}
function post(url: string, message: object, headers: Record<string, string> = {}, claims = {}) {
  return ask(url, {
    method: "POST",
    headers: { ...json, accept: "application/json, text/event-stream", ...headers },
    body: JSON.stringify({ jsonrpc: "2.0", id: 7, ...message }),
    claims,
  });
}
async function openStream(url: string, claims: object = {}): Promise<IncomingMessage> {
  const token = await gateway.tokenFor(resource(url), claims);
  return openThroughEnvoy(gateway.address, {
    url,
    headers: { authorization: `Bearer ${token}`, accept: "text/event-stream" },
  });
}
/** Claims of another user's tokens. */
const bobs = { sub: "idp/bob" };

/** Reads a stream until `pattern` has arrived. */
async function readUntil(stream: IncomingMessage, pattern: RegExp): Promise<string> {
  let seen = "";
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    seen += String(chunk);
    if (pattern.test(seen)) return seen;
  }
  throw new Error(`the stream ended: ${seen}`);
}

describe("the first event of a legacy HTTP+SSE server", () => {
  let stream: ServerResponse;
  const begins =
    (endpoint: string, before = ""): RequestListener =>
    (request, response) => {
      request.resume();
      if (request.method === "POST") {
        response.writeHead(202).end("Accepted");
        return;
      }
      stream = response.writeHead(200, { "content-type": "text/event-stream" });
      stream.write(`${before}event: endpoint\ndata: ${endpoint}\n\n`);
    };

  it.each([
    ["root-relative, below the path of `to`", "https://shared.test/team/sse", "/api/messages?sessionId=a"],
    ["root-relative, elsewhere on the same host", "https://shared.test/team/sse", "/messages/?session_id=a"],
    ["relative", "https://shared.test/team/sse", "messages?sessionId=a"],
    ["a query alone", "https://shared.test/team/sse", "?sessionid=a"],
    ["absolute", "https://shared.test/team/sse", "http://HOST/api/messages?sessionId=a"],
    [
      "absolute with the wrong scheme",
      "https://shared.test/team/sse",
      "https://HOST/api/messages?sessionId=a",
    ],
    [
      "absolute with the gateway's host",
      "https://shared.test/team/sse",
      "https://shared.test/api/messages?sessionId=a",
    ],
    ["with the session in its path", "https://shared.test/team/sse", "/api/messages/session-a"],
    ["root-relative behind a path that is kept", "https://shared.test/kept/sse", "/messages?sessionId=a"],
    ["root-relative beside `to: .../sse`", "https://legacy.test/", "/old/messages?sessionId=a"],
    ["at the root of a host whose `to` is below", "https://legacy.test/", "/message?sessionId=a&x=%2F"],
  ])("%s leads to the same endpoint as before", async (_case, url, endpoint) => {
    upstream = begins(endpoint.replace("HOST", host()), ": hello\n\nretry: 100\n\n");
    const incoming = await openStream(url);
    const sseUrl = new URL(received.url ?? "", gateway.upstream);
    const meant = new URL(endpoint.replace("HOST", host()), sseUrl);
    const seen = await readUntil(incoming, /data: .*\n\n/);
    expect(seen).toMatch(/^: hello\n\nretry: 100\n\nevent: endpoint\ndata: /);
    const named = /data: (.*)\n/.exec(seen)?.[1] ?? "";
    const where = new URL(named, url);
    expect(where.origin).toBe(new URL(url).origin);
    expect(where.pathname).toMatch(url.includes("shared.test") ? /^\/(team|kept)(\/|$)/ : /^\//);
    const answer = await post(where.href, { method: "ping" }, { accept: "*/*" });
    expect([answer.status, received.url]).toEqual([202, meant.pathname + meant.search]);
    incoming.destroy();
  });

  it.each([
    ["a comment", ": ping\n\n"],
    ["a ping", "event: ping\ndata: {}\n\n"],
    ["messages", 'data: {"jsonrpc":"2.0","method":"x"}\n\nevent: message\r\ndata: {}\r\n\r\n'],
    ["a long message", `data: {"x":"${"y".repeat(100_000)}"}\n\n`],
    ["an empty endpoint", "event: endpoint\n\n"],
    ["text", "id: 7\ndata: hello\n\n"],
  ])("is rewritten behind %s", async (_case, before) => {
    for (const [endpoint, status] of [
      ["/api/messages?sessionId=a", 200],
      ["https://evil.example/messages", 502],
    ] as const) {
      upstream = begins(endpoint, before);
      const incoming = await openStream("https://shared.test/team/sse");
      const seen = await readUntil(incoming, /endpoint\ndata: .*\n\n|error/).catch((error: Error) =>
        String(error),
      );
      incoming.destroy();
      expect(seen).not.toContain("evil");
      if (status === 200) expect(seen).toBe(`${before}event: endpoint\ndata: /team/messages?sessionId=a\n\n`);
      // Which of the two the client sees depends on whether it already has the headers.
      else
        expect(`${incoming.statusCode} ${seen}`).toMatch(
          /^(502 .*upstream_endpoint_elsewhere|200 Error: aborted)/s,
        );
    }
  });

  it("is rewritten whenever it occurs, and everything in between passes unchanged and immediately", async () => {
    upstream = begins("/api/messages?sessionId=a");
    const incoming = await openStream("https://shared.test/team/sse");
    await readUntil(incoming, /endpoint\n.*\n\n/);
    for (const [event, passed = event] of [
      ['data: {"a":1}\n\n'],
      [
        "event: endpoint\ndata: /api/second?sessionId=b\n\n",
        "event: endpoint\ndata: /team/second?sessionId=b\n\n",
      ],
      [
        "data: /api/third?sessionId=b\revent:endpoint\r\r",
        "event:endpoint\ndata: /team/third?sessionId=b\n\n",
      ],
      // A heartbeat that does not end an event.
      [":\n"],
      [": ping\r\n\r\n"],
      // Longer than any limit, and not complete yet.
      [`data: {"x":"${"y".repeat(200_000)}`],
      ["event: endpoint in a text\u2028x"],
      ['"}\n\n'],
      ["data: {\n event : endpoints\n\u00a0event: end\n eve: endpoint\n \u2028 event: none\u2028\u20ac\n\n"],
      ["event: message\n \u3000\u20acvent: endpoint\n\n"],
      [`event: message\nid: 1\ndata: ${"x".repeat(200_000)}\n\n`],
      ["event: endpoint\n\n"],
    ] as const) {
      stream.write(event);
      let seen = "";
      const length = Buffer.byteLength(passed, "utf8");
      while (Buffer.byteLength(seen) < length) seen += await readUntil(incoming, /./s);
      expect(seen).toBe(passed);
    }
    stream.end();
    expect(await text(incoming)).toBe("");
  });

  it.each([
    ["absolute", "event: endpoint\ndata: https://evil.example/messages\n\n"],
    ["in two pieces", "event: end|point\ndata: https://evil.example/messages\n\n"],
    ["its type last", "data: https://evil.example/messages\nevent: endpoint\n\n"],
    ["of two types", "event: endpoint\ndata: https://evil.example/m\nevent: message\n\n"],
    [
      "of two types, the other way round",
      "event: message\ndata: https://evil.example/m\n|event: endpoint\n\n",
    ],
    ["a message first", "data: {}\n|event: endpoint\ndata: https://evil.example/m\n\n"],
    ["with line ends of Python", "data: {}\u2028|event: endpoint\x0bdata: https://evil.example/m\n\n"],
    ["with others of them", "data: x\x85event: endpoint\x85data: https://evil.example/m\n\n"],
    ["with a line in a comment", ": x\x1cdata: https://evil.example/m\nevent: endpoint\ndata: /m\n\n"],
    ["its data behind one", "id: x\u2028data: https://evil.example/m\nevent: endpoint\n\n"],
    ["with one at the end", "event: endpoint\x0bdata: https://evil.example/m|END"],
    ["with spaces that some readers trim", " event: endpoint\ndata: https://evil.example/m\n\n"],
    ["in a message, with such spaces", "data: {\n event : endpoint\ndata: https://evil.example/m\n\n"],
    ["before a message", " event : endpoint\ndata: {}\ndata: https://evil.example/m\n\n"],
    [
      "in pieces, with a space of two bytes",
      "data: {\n\u00a0ev|ent\t:|\u00a0endpoint\u00a0\ndata: https://evil.example/m\n\n",
    ],
    ["with spaces behind its name", "data: {\nevent\u3000: endpoint\u2003\ndata: https://evil.example/m\n\n"],
    [
      "behind a line end of Python and spaces",
      "data: {\u2028 \u00a0|event: endpoint\x0bdata: https://evil.example/m\n\n",
    ],
    [
      "in an event of another type",
      "event: message\n\u2002event: endpoint\ndata: https://evil.example/m\n\n",
    ],
    ["with spaces before the data", "event: endpoint\n\u00a0data: https://evil.example/m\ndata: /m\n\n"],
    ["with its data before it", "\u00a0data: https://evil.example/m\nevent: endpoint\ndata: /m\n\n"],
    ["with a separator behind its type", "event: endpoint\x1f\ndata: https://evil.example/m\n\n"],
    ["longer than an address", `event: endpoint\ndata: https://evil.example/${"x".repeat(100_000)}\n\n`],
    ["without an end", "event: endpoint\ndata: https://evil.example/m|END"],
  ])("that arrives later and names another host ends the stream: %s", async (_case, event) => {
    upstream = begins("/api/messages?sessionId=a");
    const incoming = await openStream("https://shared.test/team/sse");
    await readUntil(incoming, /endpoint\n.*\n\n/);
    let seen = "";
    incoming.on("data", (chunk) => {
      seen += chunk;
    });
    const ended = new Promise((resolve) => incoming.on("close", resolve));
    incoming.on("error", () => {});
    for (const piece of event.split("|")) {
      if (piece === "END") stream.end();
      else await new Promise((resolve) => stream.write(piece, resolve));
    }
    await ended;
    expect(incoming.complete).toBe(false);
    // The start of an incomplete event may have been sent.
    expect(seen).not.toMatch(/evil.*\n\n|endpoint/s);
  });

  it("beyond the limit of watched streams, the next gets a clear 503, and earlier ones continue", async () => {
    upstream = (request, response) => {
      request.resume();
      stream = response.writeHead(200, { "content-type": "text/event-stream" });
      stream.write(": hello\n\n");
    };
    const open: IncomingMessage[] = [];
    let refusedBy: IncomingMessage | undefined;
    const openFor = async (person: number) => {
      await gateway.signedIn({ userId: `idp/person-${person}`, subject: `person-${person}` });
      return openStream("https://shared.test/team/sse", { sub: `idp/person-${person}` });
    };
    while (!refusedBy && open.length <= 16) {
      const incoming = await openFor(Math.floor(open.length / 2));
      if (incoming.statusCode === 200) open.push(incoming);
      else refusedBy = incoming;
      // One user may have an eighth; the rest is left for others.
      if (open.length === 2) {
        const third = await openFor(0);
        expect(third.statusCode).toBe(503);
        third.destroy();
      }
    }
    expect(open.length).toBe(16);
    expect([refusedBy?.statusCode, refusedBy?.headers["retry-after"]]).toEqual([503, "10"]);
    expect(JSON.parse(await text(refusedBy ?? Readable.from([])))).toMatchObject({
      error: "temporarily_unavailable",
      error_description: expect.stringContaining("event streams"),
      request_id: refusedBy?.headers["x-request-id"],
    });
    expect(await gateway.metrics.limitsReached.get()).toMatchObject({
      values: expect.arrayContaining([expect.objectContaining({ labels: { limit: "watched_streams" } })]),
    });
    const [first] = open;
    if (!first) throw new Error("no stream was opened");
    first.setEncoding("utf8");
    await readUntil(first, /hello\n\n/);
    // With one fewer, another is accepted.
    for (const one of open.slice(1)) one.destroy();
    await expect
      .poll(
        async () => {
          const incoming = await openStream("https://shared.test/team/sse");
          incoming.destroy();
          return incoming.statusCode;
        },
        { timeout: 60_000 },
      )
      .toBe(200);
    first.destroy();
  });

  it("arrives completely, with everything that follows it immediately", async () => {
    const rest = Array.from({ length: 500 }, (_, index) => `data: {"n":${index}}\n\n`);
    upstream = (request, response) => {
      request.resume();
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("event: endpoint\r\nda");
      response.write("ta: /api/m?sessionId=a\r\n\r\n");
      for (const one of rest) response.write(one);
      response.end();
    };
    const seen = await text(await openStream("https://shared.test/team/sse"));
    expect(seen).toBe(`event: endpoint\ndata: /team/m?sessionId=a\n\n${rest.join("")}`);
  });

  it.each([
    "https://evil.example/messages?sessionId=a",
    "//evil.example/messages?sessionId=a",
    "http://127.0.0.1:1/messages?sessionId=a",
    "javascript:alert(1)",
    "/api%2fmessages?sessionId=a",
    // Not a line end in a stream, but one in JavaScript.
    "https://evil.example/messages?sessionId=a\u2028",
    // A path of another route, which has its own policy.
    "/old/sse?sessionId=a",
    "https://shared.test/kept/messages?sessionId=a",
  ])("is 502 if it names another host: %s", async (endpoint) => {
    upstream = begins(endpoint);
    const answer = await ask("https://shared.test/team/sse", { headers: { accept: "text/event-stream" } });
    expect(answer.status).toBe(502);
    expect(JSON.parse(answer.body)).toMatchObject({
      error: "upstream_endpoint_elsewhere",
      error_description: expect.stringContaining(
        "the server sends its clients' messages to another host, or to a path of another route",
      ),
    });
    expect(answer.body).not.toContain("sessionId");
  });

  it("is found whatever follows the content type: clients only compare its beginning", async () => {
    upstream = (request, response) => {
      request.resume();
      response
        .writeHead(200, { "content-type": "text/event-stream,x" })
        .end("event: endpoint\ndata: https://evil.example/messages?sessionId=a\n\n");
    };
    const answer = await ask("https://shared.test/team/sse", { headers: { accept: "text/event-stream" } });
    expect([answer.status, answer.body]).toEqual([502, expect.not.stringContaining("evil")]);
  });

  it("of another kind passes", async () => {
    upstream = (request, response) => {
      request.resume();
      response
        .writeHead(200, { "content-type": "text/event-stream" })
        .end("id: 1\ndata: {}\n\nevent: ping\ndata: x\n\n");
    };
    const answer = await ask("https://shared.test/team/sse", { headers: { accept: "text/event-stream" } });
    expect([answer.status, answer.body]).toEqual([200, "id: 1\ndata: {}\n\nevent: ping\ndata: x\n\n"]);
  });

  it("a path that no event has named cannot be requested", async () => {
    upstream = begins("/messages?sessionId=a");
    const incoming = await openStream("https://shared.test/team/sse");
    const seen = await readUntil(incoming, /data: .*\n\n/);
    incoming.destroy();
    const named = /data: (.*)\n/.exec(seen)?.[1] ?? "";
    upstream = (_request, response) => response.end("reached");
    for (const url of [
      `https://shared.test${named.replace("/messages", "/admin")}`,
      `https://shared.test${named.replace("/team/", "/kept/")}`,
    ]) {
      const answer = await post(url, { method: "ping" });
      expect([answer.status, answer.body.includes("reached")]).toEqual([404, false]);
    }
    // Nor can one that was named to another user.
    const url = `https://shared.test${named}`;
    const ofBob = await post(url, { method: "ping" }, {}, bobs);
    expect([ofBob.status, ofBob.body.includes("reached")]).toEqual([404, false]);
    expect((await post(url, { method: "ping" })).body).toBe("reached");
  });

  it("a post with an expired token gets the route's metadata: clients know no other metadata of this server", async () => {
    for (const path of ["/team/.upstream/proof/messages?sessionId=a", "/team/messages?sessionId=a"]) {
      const answer = await throughEnvoy(gateway.address, {
        url: `https://shared.test${path}`,
        method: "POST",
        headers: { ...json, accept: "*/*", authorization: "Bearer gone" },
        body: "{}",
      });
      expect([answer.status, answer.header("www-authenticate")]).toEqual([
        401,
        expect.stringContaining('"https://shared.test/.well-known/oauth-protected-resource/team"'),
      ]);
    }
  });

  it("policy is evaluated on the upstream's path, wherever the event leads", async () => {
    for (const [endpoint, status] of [
      ["/admin?sessionId=a", 403],
      ["/messages?sessionId=a", 202],
    ] as const) {
      upstream = begins(endpoint);
      const incoming = await openStream("https://shared.test/pathed/sse");
      const seen = await readUntil(incoming, /data: .*\n\n/);
      incoming.destroy();
      const where = `https://shared.test${/data: (.*)\n/.exec(seen)?.[1]}`;
      expect((await post(where, { method: "ping" }, { accept: "*/*" })).status).toBe(status);
    }
  });

  it("a call there that policy denies is 403 with the JSON-RPC error", async () => {
    for (const endpoint of ["/api/messages?sessionId=a", "/elsewhere/session-a"]) {
      upstream = begins(endpoint);
      const incoming = await openStream("https://shared.test/policed/sse");
      const seen = await readUntil(incoming, /data: .*\n\n/);
      incoming.destroy();
      const where = `https://shared.test${/data: (.*)\n/.exec(seen)?.[1]}`;
      const call = { method: "tools/call", params: { name: "secret" } };
      const denied = await post(where, call, { accept: "*/*" });
      expect([denied.status, JSON.parse(denied.body).id, JSON.parse(denied.body).error.code]).toEqual([
        403, 7, -32602,
      ]);
      // Streamable HTTP reads the response itself.
      const streamable = await post("https://shared.test/policed", call);
      expect([streamable.status, JSON.parse(streamable.body).id]).toEqual([200, 7]);
    }
  });
});

describe("an upstream's redirect", () => {
  const redirects =
    (status: number, headers: Record<string, string | string[]>): RequestListener =>
    (request, response) => {
      request.resume();
      response.writeHead(status, headers).end();
    };

  it.each([301, 302, 303, 307, 308])("%i to its own host leads below the route", async (status) => {
    for (const location of [
      "http://HOST/api/mcp/?a=1",
      "https://HOST/api/mcp/?a=1",
      "/api/mcp/?a=1",
      "mcp/?a=1",
    ]) {
      upstream = redirects(status, { location: location.replace("HOST", host()) });
      const answer = await post("https://shared.test/team/mcp", { method: "ping" });
      expect([answer.status, answer.header("location")]).toEqual([
        status,
        "https://shared.test/team/mcp/?a=1",
      ]);
      upstream = redirects(200, {});
      await post(answer.header("location") ?? "", { method: "ping" });
      expect(received.url).toBe("/api/mcp/?a=1");
    }
  });

  it("from `to` itself to `to` with a slash does not loop", async () => {
    upstream = (request, response) => {
      request.resume();
      if (request.url === "/old/sse/") response.end("there");
      else response.writeHead(307, { location: `http://${host()}/old/sse/` }).end();
    };
    const answer = await post("https://legacy.test/", { method: "ping" });
    expect(answer.status).toBe(307);
    expect((await post(answer.header("location") ?? "", { method: "ping" })).body).toBe("there");
  });

  it.each([
    "https://evil.example/mcp",
    "//evil.example/mcp",
    "http://127.0.0.1:1/mcp",
    "javascript:alert(1)",
    "http://[",
    "/old/sse",
    "https://shared.test/kept/mcp",
  ])("to another host is 502, and says what to do: %s", async (location) => {
    upstream = redirects(307, { location });
    const answer = await post("https://shared.test/team/mcp", { method: "ping" });
    expect([answer.status, answer.header("location")]).toEqual([502, undefined]);
    const { error, error_description: description, request_id: id } = JSON.parse(answer.body);
    expect([error, id]).toEqual(["upstream_redirect_elsewhere", answer.header("x-request-id")]);
    expect(description).toMatch(/`to`/);
  });

  it("the internal address is not in any other header", async () => {
    upstream = redirects(201, {
      location: `http://${host()}/api/items/1`,
      "content-location": `http://${host()}/api/items/1`,
    });
    const answer = await post("https://shared.test/team/items", { method: "ping" });
    expect([answer.status, answer.header("location"), answer.header("content-location")]).toEqual([
      201,
      "https://shared.test/team/items/1",
      "https://shared.test/team/items/1",
    ]);
    // Outside `to`, and not followed: no access is granted.
    upstream = redirects(201, { location: "/admin", "content-location": "/admin" });
    const beside = await post("https://shared.test/team/items", { method: "ping" });
    expect([beside.status, beside.header("location"), beside.header("content-location")]).toEqual([
      201,
      undefined,
      undefined,
    ]);
    upstream = redirects(200, { "content-location": "http://10.0.0.1/x", refresh: "1; url=http://10.0.0.1" });
    const other = await post("https://shared.test/team/items", { method: "ping" });
    expect([other.status, other.header("content-location"), other.header("refresh")]).toEqual([
      200,
      undefined,
      undefined,
    ]);
  });
});

describe("an upstream's own cookie", () => {
  const sets =
    (cookies: string[], type = "application/json"): RequestListener =>
    (request, response) => {
      request.resume();
      response.writeHead(200, { "content-type": type, "set-cookie": cookies }).end("{}");
    };
  const setBy = async (url: string, cookies: string[]) => {
    upstream = sets(cookies);
    const answer = await post(url, { method: "ping" });
    return answer.headers.filter(([name]) => name === "set-cookie").map(([, value]) => value);
  };

  it("is sent back to the upstream of its route, and nowhere else", async () => {
    const [set = "", ...more] = await setBy("https://shared.test/team/mcp", [
      "AWSALB=abc/+=; Expires=Wed, 09 Jun 2100 10:18:14 GMT; Max-Age=600; Domain=127.0.0.1; Path=/; SameSite=None; HttpOnly",
    ]);
    expect(more).toEqual([]);
    const [pair = "", ...attributes] = set.split("; ");
    expect(pair).toMatch(/^mcp_up_[0-9a-f]+_AWSALB=abc\/\+=$/);
    expect(new Set(attributes)).toEqual(
      new Set([
        "Expires=Wed, 09 Jun 2100 10:18:14 GMT",
        "Max-Age=600",
        "Path=/team",
        "SameSite=None",
        "HttpOnly",
        "Secure",
      ]),
    );
    const cookie = `theme=dark; ${pair}; __Host-mcp_session=x; AWSALB=other`;
    upstream = sets([]);
    await post("https://shared.test/team/mcp", { method: "ping" }, { cookie });
    expect(received.headers.cookie).toBe("AWSALB=abc/+=");
    await post("https://shared.test/kept/mcp", { method: "ping" }, { cookie });
    expect(received.headers.cookie).toBeUndefined();
    // Nor with another user's call, if the client shares the cookie jar, or if a neighboring host has filled it.
    await post("https://shared.test/team/mcp", { method: "ping" }, { cookie }, bobs);
    expect(received.headers.cookie).toBeUndefined();
  });

  it("has its path below the route's", async () => {
    const paths = async (url: string, ...values: (string | undefined)[]) =>
      (
        await setBy(
          url,
          values.map((path) => (path === undefined ? "a=1" : `a=1; Path=${path}`)),
        )
      ).map((set) => /Path=([^;]*)/.exec(set)?.[1]);
    expect(
      await paths("https://shared.test/team/mcp/x", undefined, "/", "/api", "/api/mcp", "/other", "evil"),
    ).toEqual(["/team/mcp", "/team", "/team", "/team/mcp", "/team", "/team/mcp"]);
  });

  it("is never a cookie of the gateway, malformed, too long or one of too many", async () => {
    expect(
      await setBy("https://shared.test/team/mcp", [
        "__Host-mcp_session=planted; Path=/; Secure",
        "mcp_up_00000000_x=1",
        "=nameless",
        "no pair",
        "bad name=1",
        `long=${"x".repeat(5000)}`,
      ]),
    ).toEqual([]);
    const many = Array.from({ length: 60 }, (_, index) => `c${index}=${"x".repeat(400)}`);
    const set = await setBy("https://shared.test/team/mcp", many);
    expect(set.length).toBeGreaterThan(0);
    expect(set.length).toBeLessThanOrEqual(16);
    expect(set.join("").length).toBeLessThanOrEqual(8192);
    // A client that has the maximum gets no more, but cookies may be removed.
    upstream = sets(["one_more=1", "c1=; Max-Age=0"]);
    const cookie = set.map((one) => one.split(";")[0]).join("; ");
    const full = await post("https://shared.test/team/mcp", { method: "ping" }, { cookie });
    expect(full.headers.filter(([name]) => name === "set-cookie").map(([, value]) => value)).toEqual([
      expect.stringMatching(/_c1=; Max-Age=0/),
    ]);
  });

  it("a page of an MCP server sets no cookie", async () => {
    upstream = sets(["a=1"], "text/html");
    const page = await ask("https://shared.test/team/page");
    upstream = sets(["a=1"]);
    const navigation = await ask("https://shared.test/team/page", {
      headers: { "sec-fetch-mode": "navigate" },
    });
    expect([page, navigation].map((one) => [one.status, one.header("set-cookie")])).toEqual([
      [200, undefined],
      [200, undefined],
    ]);
  });
});

describe("a list of tools beyond limits.tool_list_bytes", () => {
  const list = JSON.stringify({
    jsonrpc: "2.0",
    id: 7,
    result: { tools: [{ name: "secret" }, { name: "open", description: "x".repeat(200_000) }] },
  });
  it.each([
    ["application/json", list],
    ["text/event-stream", `: hi\n\nevent: message\ndata: ${list}\n\ndata: {"after":true}\n\n`],
  ])("is a JSON-RPC error: %s", async (type, body) => {
    for (const known of [true, false]) {
      upstream = (request, response) => {
        request.resume();
        response.writeHead(200, {
          "content-type": type,
          ...(known && { "content-length": String(Buffer.byteLength(body)) }),
        });
        for (let at = 0; at < body.length; at += 10_000) response.write(body.slice(at, at + 10_000));
        response.end();
      };
      const answer = await post("https://guarded.test/", { method: "tools/list" });
      expect(answer.status).toBe(200);
      const message =
        type === "application/json" ? answer.body : (/data: (\{"jsonrpc.*)\n/.exec(answer.body)?.[1] ?? "");
      expect(JSON.parse(message)).toMatchObject({
        jsonrpc: "2.0",
        id: 7,
        error: { code: -32603, message: expect.stringContaining("limits.tool_list_bytes") },
      });
      expect(answer.body).not.toContain("secret");
      if (type !== "application/json") expect(answer.body).toMatch(/^: hi\n\n.*data: \{"after":true\}\n\n$/s);
    }
  });
});

describe("two `to` and a server with sessions", () => {
  it("all requests of one session go to one endpoint, and users are spread over both", async () => {
    await useSessions("https://shared.test/twins");
    expect(asked.every((count) => count > 0)).toBe(true);
  });

  it("also while one of the endpoints accepts no connections", () => useSessions("https://shared.test/half"));

  // The ring has stretches where many entries in a row belong to endpoints that are down.
  it("none of many users is stuck with two of three endpoints that accept no connections", async () => {
    const answers = [];
    for (let person = 0; person < 150; person += 1) {
      const claims = { client_id: `many-${person}` };
      answers.push(
        (await post("https://shared.test/mostly-down", { method: "initialize" }, {}, claims)).status,
      );
    }
    expect(answers.filter((status) => status !== 200)).toEqual([]);
  });

  async function useSessions(url: string) {
    for (let person = 0; person < 12; person += 1) {
      const claims = { client_id: `client-${person}` };
      const opened = await post(url, { method: "initialize" }, {}, claims);
      const session = { "mcp-session-id": opened.header("mcp-session-id") ?? "" };
      const answers = [];
      for (let call = 0; call < 4; call += 1)
        answers.push((await post(url, { method: "ping" }, session, claims)).status);
      expect(answers).toEqual([200, 200, 200, 200]);
    }
  }
});

describe("an upstream that is down", () => {
  it.each([
    ["nobody", 503, "upstream_connection_refused"],
    ["resets", 503, "upstream_reset"],
    ["plain", 503, "upstream_tls_failed"],
    ["unnamed", 503, "upstream_no_address"],
  ])(
    "%s: JSON that says which hop failed, with the request id; a page in a browser",
    async (route, status, code) => {
      const answer = await post(`https://shared.test/${route}`, { method: "ping" });
      expect([answer.status, answer.header("content-type"), answer.header("retry-after")]).toEqual([
        status,
        "application/json",
        "1",
      ]);
      const body = JSON.parse(answer.body);
      // Not JSON-RPC: the Rust SDK drops an error without an id, and its caller waits.
      expect(body).toEqual({
        error: code,
        error_description: expect.stringMatching(/^[A-Z].*\.$/),
        hop: "upstream",
        request_id: answer.header("x-request-id"),
      });
      expect(answer.body).not.toMatch(/127\.0\.0\.1|reset reason/);
      expect(answer.header("access-control-allow-origin")).toBe("*");
      const page = await ask(`https://shared.test/${route}`, {
        headers: {
          accept: "text/html,application/xhtml+xml,*/*;q=0.8",
          "sec-fetch-mode": "navigate",
        },
      });
      expect([page.status, page.header("content-type")]).toEqual([status, "text/html; charset=utf-8"]);
      expect(page.header("content-security-policy")).toContain("default-src 'none'");
      expect(page.body).toContain(page.header("x-request-id"));
      expect(page.body).toContain(body.error_description);
      const planted = await ask(`https://shared.test/${route}`, {
        headers: { accept: "text/html", "x-request-id": "<script>alert(1)</script>" },
      });
      expect([planted.header("content-type"), planted.body.includes("<script")]).toEqual([
        "text/html; charset=utf-8",
        false,
      ]);
    },
  );

  it("the gateway's own responses are unchanged", async () => {
    const answer = await throughEnvoy(gateway.address, { url: "https://shared.test/team" });
    expect([answer.status, JSON.parse(answer.body).error]).toEqual([401, "unauthorized"]);
  });

  it("the gateway without its sidecar does the same", async () => {
    await gateway.stopSidecar();
    const answer = await post("https://shared.test/team", { method: "ping" });
    expect([answer.status, answer.header("retry-after"), JSON.parse(answer.body)]).toMatchObject([
      503,
      "1",
      { error: "authorization_unavailable", hop: "authorization" },
    ]);
  });
});
