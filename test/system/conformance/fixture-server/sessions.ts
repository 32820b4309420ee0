import { randomUUID } from "node:crypto";
import { type McpServer, WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/server";
import { eventLog } from "./event-log.ts";

/** Serves revisions up to 2025-11-25: a separate server for every `Mcp-Session-Id`. */
export function sessions(connected: () => McpServer) {
  const transports = new Map<string, WebStandardStreamableHTTPServerTransport>();
  return {
    async fetch(request: Request): Promise<Response> {
      const id = request.headers.get("mcp-session-id");
      const transport = id === null ? await open() : transports.get(id);
      return transport ? transport.handleRequest(request) : new Response("unknown session", { status: 404 });
    },
    async close(): Promise<void> {
      for (const transport of transports.values()) await transport.close();
    },
  };

  async function open() {
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => {
        transports.set(id, transport);
      },
      onsessionclosed: (id) => {
        transports.delete(id);
      },
      eventStore: eventLog(),
      retryInterval: 500,
    });
    await connected().connect(transport);
    return transport;
  }
}
