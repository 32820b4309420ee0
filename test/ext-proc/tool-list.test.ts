import { once } from "node:events";
import type { IncomingMessage, RequestListener } from "node:http";
import { text } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openThroughEnvoy, throughEnvoy } from "../support/through-envoy.ts";
import { startGateway } from "./start-gateway.ts";

let gateway: Awaited<ReturnType<typeof startGateway>>;
let token: string;
let upstream: RequestListener;
let received: IncomingMessage["headers"];

beforeAll(async () => {
  gateway = await startGateway({
    upstream: (request, response) => {
      received = request.headers;
      upstream(request, response);
    },
    upstreamRejected: async () => ({ kind: "consent", scopes: [], reason: "refused" }),
  });
  token = await gateway.guardedToken();
});
afterAll(() => gateway?.close());

const list = (...names: string[]) => ({
  jsonrpc: "2.0",
  id: 1,
  result: { tools: names.map((name) => ({ name, inputSchema: { type: "object" } })) },
});
function answers(body: string | Buffer, headers: Record<string, string>): RequestListener {
  return async (request, response) => {
    await text(request);
    response.writeHead(200, { ...headers, "content-length": String(Buffer.byteLength(body)) }).end(body);
  };
}
const request = (method: string) => ({
  url: "https://guarded.test/",
  method: "POST",
  headers: {
    authorization: `Bearer ${token}`,
    "content-type": "application/json",
    accept: "application/json, text/event-stream",
    "accept-encoding": "gzip",
  },
  body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params: { name: "open" } }),
});

describe("the response to tools/list on a route with a tool policy", () => {
  it("shows only allowed tools, with the correct length", async () => {
    upstream = answers(JSON.stringify(list("open", "secret")), { "content-type": "application/json" });
    const answer = await throughEnvoy(gateway.address, request("tools/list"));
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.body)).toEqual(list("open"));
    expect(received["accept-encoding"]).toBeUndefined();
  });

  it("a long list that arrives in chunks is filtered and delivered", async () => {
    const names = Array.from({ length: 4_000 }, (_, index) => `tool_${index}`);
    const body = JSON.stringify(list("secret", ...names, "open"));
    let sendRest: () => void = () => {};
    upstream = (incoming, response) => {
      incoming.resume();
      response.writeHead(200, { "content-type": "application/json" });
      response.write(body.slice(0, 20_000));
      sendRest = () => {
        for (let at = 20_000; at < body.length; at += 20_000) response.write(body.slice(at, at + 20_000));
        response.end();
      };
    };
    // The headers are sent after the first chunk has been seen.
    const stream = await openThroughEnvoy(gateway.address, request("tools/list"));
    sendRest();
    expect(JSON.parse(await text(stream))).toEqual(list(...names, "open"));
  });

  it.each([
    ["application/json", true],
    ["application/json", false],
    ["text/event-stream", true],
    ["text/event-stream", false],
  ])(
    "a list of 1.5 MiB is filtered and arrives completely with the default limits: %s, length known: %s",
    async (type, known) => {
      const names = Array.from({ length: 30_000 }, (_, index) => `tool_${index}`);
      const message = JSON.stringify(list("secret", ...names, "open"));
      expect(message.length).toBeGreaterThan(1.5 * 1024 * 1024);
      const isStream = type === "text/event-stream";
      const body = isStream ? `event: message\ndata: ${message}\n\n` : message;
      upstream = (incoming, response) => {
        incoming.resume();
        const length = known ? { "content-length": String(Buffer.byteLength(body)) } : {};
        response.writeHead(200, { "content-type": type, ...length });
        for (let at = 0; at < body.length; at += 100_000) response.write(body.slice(at, at + 100_000));
        response.end();
      };
      const answer = await throughEnvoy(gateway.address, request("tools/list"));
      expect(answer.status).toBe(200);
      const arrived = isStream ? answer.body.replace(/^event: message\ndata: |\n\n$/g, "") : answer.body;
      const { id, result } = JSON.parse(arrived);
      expect([id, result.tools.length]).toEqual([1, names.length + 1]);
      // Not by toEqual: printing a difference of 30,000 lines takes too long.
      expect(arrived === JSON.stringify(list(...names, "open"))).toBe(true);
    },
  );

  it("is filtered on an event stream, event by event", async () => {
    let send: (event: string) => void = () => {};
    upstream = (incoming, response) => {
      incoming.resume();
      response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
      send = (event) => response.write(event);
    };
    const stream = await openThroughEnvoy(gateway.address, request("tools/list"));
    send(": hello\n\n");
    expect(String((await once(stream, "data"))[0])).toBe(": hello\n\n");
    send(`data: ${JSON.stringify(list("open", "secret"))}\n\n`);
    const [event] = await once(stream, "data");
    expect(JSON.parse(String(event).replace(/^data: /, ""))).toEqual(list("open"));
    stream.destroy();
  });

  it("is replaced with an error when it cannot be read: compressed, of another type", async () => {
    const body = JSON.stringify(list("secret"));
    for (const [bytes, headers] of [
      [gzipSync(body), { "content-type": "application/json", "content-encoding": "gzip" }],
      [body, { "content-type": "text/plain" }],
    ] as const) {
      upstream = answers(bytes, headers);
      const answer = await throughEnvoy(gateway.address, request("tools/list"));
      expect([answer.status, JSON.parse(answer.body).error]).toEqual([502, "tools_list_unreadable"]);
      expect(answer.body).not.toContain("secret");
    }
  });

  it.each([
    ["application/json", (broken: string) => broken],
    ["text/event-stream", (broken: string) => `data: ${broken}\n\n`],
  ])("ends when a list cannot be read: %s", async (type, send) => {
    upstream = (incoming, response) => {
      incoming.resume();
      response.writeHead(200, { "content-type": type });
      response.end(send(JSON.stringify(list("secret")).slice(0, -3)));
    };
    const stream = await openThroughEnvoy(gateway.address, request("tools/list"));
    // Which of the two the client sees depends on whether it already has the headers.
    const seen = await text(stream).catch((error: Error) => error.message);
    expect(stream.statusCode === 200 ? seen : `${stream.statusCode}${seen}`).toMatch(/^(aborted|503)/);
    expect(seen).not.toContain("secret");
  });

  it("is the gateway's challenge after a 401", async () => {
    upstream = (incoming, response) => {
      incoming.resume();
      response.writeHead(401, { "www-authenticate": "Bearer" }).end();
    };
    const answer = await throughEnvoy(gateway.address, request("tools/list"));
    expect([answer.status, answer.header("www-authenticate")]).toEqual([
      401,
      expect.stringContaining("https://guarded.test/.well-known/oauth-protected-resource"),
    ]);
  });

  it("leaves responses to other calls unchanged", async () => {
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, result: { content: [], note: list("secret") } });
    upstream = answers(body, { "content-type": "application/json", "content-encoding": "identity" });
    const answer = await throughEnvoy(gateway.address, request("tools/call"));
    expect([answer.status, answer.body]).toEqual([200, body]);
  });
});
