import { toNodeHandler } from "@modelcontextprotocol/node";
import {
  createMcpHandler,
  hostHeaderValidationResponse,
  isLegacyRequest,
  localhostAllowedHostnames,
  localhostAllowedOrigins,
  type McpHttpHandler,
  originValidationResponse,
} from "@modelcontextprotocol/server";
import { type Listener, listen } from "../../../../dev/demo/listen.ts";
import { fixtureMcpServer, type Part } from "./fixture-mcp-server.ts";
import { sessions } from "./sessions.ts";

/**
 * Starts an MCP server for the suite's server scenarios: 2026-07-28 without sessions, earlier revisions with sessions, at any path.
 * Ignores tokens; accepts only this machine's host names.
 * @param part absent: all that the scenarios call
 */
export async function fixtureServer(part?: Part): Promise<Listener> {
  const stateless: McpHttpHandler = createMcpHandler(() => fixtureMcpServer(stateless.notify, part), {
    legacy: "reject",
  });
  const stateful = sessions(() => fixtureMcpServer(stateless.notify, part));
  const handle = toNodeHandler({
    async fetch(request) {
      const foreign =
        hostHeaderValidationResponse(request, localhostAllowedHostnames()) ??
        originValidationResponse(request, localhostAllowedOrigins());
      if (foreign) return foreign;
      return (await isLegacyRequest(request)) ? stateful.fetch(request) : stateless.fetch(request);
    },
  });
  const listener = await listen((request, response) => void handle(request, response));
  return {
    ...listener,
    async close() {
      await stateful.close();
      await stateless.close();
      await listener.close();
    },
  };
}
