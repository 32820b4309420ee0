import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { toNodeHandler } from "@modelcontextprotocol/node";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as TransportV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { createMcpHandler, McpServer } from "@modelcontextprotocol/server";
import { listen } from "../../../dev/demo/listen.ts";
import type { E2e } from "../../support/e2e.ts";

/** What a test client needs: the URL, an external token, and what it can do. */
export interface AskedClient {
  readonly url: string;
  readonly token: string;
  readonly fetch: typeof fetch;
  /** Default: it can show a URL. */
  readonly capabilities?: { elicitation?: { url?: Record<string, never>; form?: Record<string, never> } };
}

/** How the user answers when the client shows a URL. */
export type ShowUrl = (params: {
  readonly url: string;
  readonly message: string;
}) => Promise<"accept" | "decline">;

const who = { name: "asked", version: "1.0.0" };
const capable = { elicitation: { url: {} } };
const sent = ({ token, fetch }: AskedClient) => ({
  fetch,
  requestInit: { headers: { authorization: `Bearer ${token}` } },
});

/** The SDK's first major version, 2025-11-25. */
export async function clientOfV1(options: AskedClient): Promise<ClientV1> {
  const client = new ClientV1(who, { capabilities: options.capabilities ?? capable });
  if ((options.capabilities ?? capable).elicitation)
    client.setRequestHandler(ElicitRequestSchema, () => ({ action: "cancel" }));
  await client.connect(new TransportV1(new URL(options.url), sent(options)));
  return client;
}

/** The second one: 2025-11-25, or 2026-07-28. */
export async function clientOfV2(
  options: AskedClient & { readonly revision: "2025-11-25" | "2026-07-28"; readonly show?: ShowUrl },
): Promise<Client> {
  const { revision, show } = options;
  const client = new Client(who, {
    capabilities: options.capabilities ?? capable,
    ...(revision === "2026-07-28" ? { versionNegotiation: { mode: { pin: revision } } } : {}),
  });
  if ((options.capabilities ?? capable).elicitation)
    client.setRequestHandler("elicitation/create", async ({ params }) => {
      if (!("url" in params) || !show) return { action: "cancel" };
      return { action: await show(params) };
    });
  await client.connect(new StreamableHTTPClientTransport(new URL(options.url), sent(options)));
  return client;
}

/** An MCP server of 2026-07-28, without sessions, that requires a token of the stack's upstream authorization server. */
export async function modernServer(stack: () => Pick<E2e, "upstream">) {
  const received: unknown[] = [];
  const handler = createMcpHandler(
    () => {
      const server = new McpServer({ name: "modern", version: "1.0.0" });
      server.registerTool("hello", { description: "Says hello" }, async ({ mcpReq }) => {
        received.push(mcpReq.inputResponses);
        return { content: [{ type: "text", text: "hello" }] };
      });
      return server;
    },
    { legacy: "reject" },
  );
  const handle = toNodeHandler(handler);
  const listener = await listen(async (request, response) => {
    const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
    if (await stack().upstream.verify(token, url)) return void handle(request, response);
    response.writeHead(401, { "www-authenticate": "Bearer" }).end();
  });
  const url = `${listener.url}/mcp`;
  return {
    url,
    /** `inputResponses` of each call. */
    received,
    async close() {
      await handler.close();
      await listener.close();
    },
  };
}
