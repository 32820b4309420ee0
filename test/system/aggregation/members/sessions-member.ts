import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { SSEServerTransport } from "@modelcontextprotocol/sdk/server/sse.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { legacyMcpServer } from "./legacy-mcp-server.ts";
import { type Member, Signals, startMember } from "./member.ts";

/** Revisions before 2026-07-28 that have Streamable HTTP. */
export type LegacyRevision = "2025-03-26" | "2025-06-18" | "2025-11-25";

interface Initialize {
  method?: unknown;
  params?: { protocolVersion?: unknown };
}

/** A server with sessions and event streams, on the first major version of the SDK. It negotiates no newer revision than `revision`. */
export function sessionsMember(name: string, revision: LegacyRevision = "2025-11-25"): Promise<Member> {
  const signals = new Signals();
  const open = new Map<string, { server: McpServer; transport: StreamableHTTPServerTransport }>();

  async function handle(request: IncomingMessage, response: ServerResponse, body: string): Promise<void> {
    const message: Initialize | undefined = body ? JSON.parse(body) : undefined;
    const id = request.headers["mcp-session-id"];
    if (typeof id === "string") {
      const known = open.get(id);
      if (!known) return void response.writeHead(404).end('{"error":"unknown session"}');
      return known.transport.handleRequest(request, response, message);
    }
    if (message?.method !== "initialize") return void response.writeHead(400).end('{"error":"no session"}');
    // The SDK would accept the newest that the client offers.
    const { params } = message;
    if (params && String(params.protocolVersion) > revision) params.protocolVersion = revision;
    const server = legacyMcpServer(name, signals, revision);
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (made) => void open.set(made, { server, transport }),
      onsessionclosed: (ended) => void open.delete(ended),
    });
    await server.connect(transport);
    await transport.handleRequest(request, response, message);
  }
  const servers = () => [...open.values()].map(({ server }) => server);
  const forgetSessions = async () => {
    const forgotten = servers();
    open.clear();
    for (const server of forgotten) await server.close();
  };
  return startMember(signals, {
    handle,
    forgetSessions,
    toolsChanged: () => {},
    resourceUpdated: (uri) => {
      for (const { server } of servers()) void server.sendResourceUpdated({ uri }).catch(() => {});
    },
    close: forgetSessions,
  });
}

/** A server without sessions and streams: one JSON response per request, from a new server each time. */
export function statelessMember(name: string): Promise<Member> {
  const signals = new Signals();
  return startMember(signals, {
    async handle(request, response, body) {
      if (request.method !== "POST") return void response.writeHead(405, { allow: "POST" }).end();
      const server = legacyMcpServer(name, signals, "2025-11-25");
      const transport = new StreamableHTTPServerTransport({ enableJsonResponse: true });
      response.once("close", () => void server.close());
      await server.connect(transport);
      await transport.handleRequest(request, response, JSON.parse(body));
    },
    toolsChanged: () => {},
    resourceUpdated: () => {},
  });
}

/** A server with the transport of revision 2024-11-05, HTTP+SSE: an event stream that names the URL for messages. */
export function sseMember(name: string): Promise<Member> {
  const signals = new Signals();
  const open = new Map<string, { server: McpServer; transport: SSEServerTransport }>();
  async function close(): Promise<void> {
    for (const { server } of open.values()) await server.close();
  }
  return startMember(
    signals,
    {
      async handle(request, response, body) {
        const url = new URL(request.url ?? "/", "http://member");
        if (url.pathname === "/messages") {
          const known = open.get(url.searchParams.get("sessionId") ?? "");
          if (!known) return void response.writeHead(404).end();
          return known.transport.handlePostMessage(request, response, JSON.parse(body));
        }
        if (request.method !== "GET") return void response.writeHead(405, { allow: "GET" }).end();
        const transport = new SSEServerTransport("/messages", response);
        const server = legacyMcpServer(name, signals, "2025-03-26");
        open.set(transport.sessionId, { server, transport });
        response.once("close", () => open.delete(transport.sessionId));
        await server.connect(transport);
      },
      toolsChanged: () => {},
      resourceUpdated: () => {},
      forgetSessions: close,
      close,
    },
    "/sse",
  );
}
