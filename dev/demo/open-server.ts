import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { z } from "zod";
import { listen } from "./listen.ts";
import { type RecordedRequest, recordRequests } from "./record-requests.ts";

/** An MCP server that requires no token. */
export interface OpenServer {
  /** The MCP endpoint: `http://127.0.0.1:PORT/v1/tools`. */
  readonly url: string;
  readonly port: number;
  readonly requests: readonly RecordedRequest[];
  close(): Promise<void>;
}

/**
 * Starts a simpler MCP server: no sessions, no streams, one JSON response per POST, at a path other
 * than `/mcp`. Tools: greet, headers (names of the headers it received).
 */
export async function openServer(options: { port?: number; portSetting?: string } = {}): Promise<OpenServer> {
  const { requests, handle } = recordRequests(async (request, response, body) => {
    if (request.url?.split("?")[0] !== "/v1/tools") {
      response.writeHead(404, { "content-type": "application/json" }).end('{"error":"not_found"}');
      return;
    }
    if (request.method !== "POST") {
      response.writeHead(405, { allow: "POST" }).end();
      return;
    }
    const server = mcpServer();
    const transport = new StreamableHTTPServerTransport({ enableJsonResponse: true });
    response.once("close", () => void server.close());
    await server.connect(transport);
    await transport.handleRequest(request, response, JSON.parse(body));
  });
  const listener = await listen(handle, options.port, options.portSetting);
  return { url: `${listener.url}/v1/tools`, port: listener.port, requests, close: listener.close };
}

function mcpServer(): McpServer {
  const server = new McpServer({ name: "open", version: "1.0.0" });
  server.registerTool(
    "greet",
    { description: "Greets by name", inputSchema: { name: z.string() } },
    ({ name }) => ({ content: [{ type: "text", text: `Hello, ${name}!` }] }),
  );
  server.registerTool("headers", { description: "Names of the headers received" }, ({ requestInfo }) => ({
    content: [{ type: "text", text: Object.keys(requestInfo?.headers ?? {}).join("\n") }],
  }));
  return server;
}
