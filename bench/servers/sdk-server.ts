import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { NodeStreamableHTTPServerTransport } from "@modelcontextprotocol/node";
import { Server } from "@modelcontextprotocol/server";

/*
 * MCP servers as they are usually written, with the official SDK: every path is one, with sessions and `argv[2]` tools. Prints its
 * URL.
 */
const tools = Array.from({ length: Number(process.argv[2] ?? 50) }, (_, index) => ({
  name: `search_${index}`,
  description: "Searches the repositories that the signed-in person can read, newest first",
  inputSchema: {
    type: "object" as const,
    properties: {
      query: { type: "string" as const, description: "Words that must occur in the repository's name" },
      limit: { type: "integer" as const, minimum: 1, maximum: 100 },
    },
    required: ["query"],
  },
}));
const sessions = new Map<string, NodeStreamableHTTPServerTransport>();

async function open(): Promise<NodeStreamableHTTPServerTransport> {
  const transport = new NodeStreamableHTTPServerTransport({
    sessionIdGenerator: () => randomUUID(),
    enableJsonResponse: true,
    onsessioninitialized: (id) => {
      sessions.set(id, transport);
    },
    onsessionclosed: (id) => {
      sessions.delete(id);
    },
  });
  const server = new Server({ name: "bench", version: "1" }, { capabilities: { tools: {} } });
  server.setRequestHandler("tools/list", () => ({ tools }));
  server.setRequestHandler("tools/call", () => ({ content: [{ type: "text", text: "called" }] }));
  await server.connect(transport);
  return transport;
}

const server = createServer(async (request, response) => {
  const body = request.method === "POST" ? await json(request) : undefined;
  const id = request.headers["mcp-session-id"];
  const known = typeof id === "string" ? sessions.get(id) : undefined;
  if (id !== undefined && known === undefined) response.writeHead(404).end();
  else await (known ?? (await open())).handleRequest(request, response, body);
});
server.keepAliveTimeout = 120_000;
server.listen(0, "127.0.0.1", () =>
  console.log(`ready http://127.0.0.1:${(server.address() as AddressInfo).port}`),
);
process.on("SIGTERM", () => process.exit(0));
