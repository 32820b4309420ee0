import { randomUUID } from "node:crypto";
import { EventEmitter, on, once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AuthInfo } from "@modelcontextprotocol/sdk/server/auth/types.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { z } from "zod";
import { listen } from "./listen.ts";
import { type RecordedRequest, recordRequests } from "./record-requests.ts";
import type { UpstreamAuthorizationServer } from "./upstream-authorization-server.ts";

/** An MCP server that requires a token of its own authorization server. */
export interface EverythingServer {
  /** The MCP endpoint and its resource identifier: `http://127.0.0.1:PORT/mcp`. */
  readonly url: string;
  readonly port: number;
  readonly requests: readonly RecordedRequest[];
  /** Settles when a call of the tool `follow` is running. */
  followed(): Promise<void>;
  /** Sends one progress notification on every running call of the tool `follow`. */
  emit(message: string): void;
  /** Ends every running call of `follow`. */
  finish(): void;
  close(): Promise<void>;
}

/**
 * Starts an MCP server (Streamable HTTP with sessions and event streams) behind a bearer check: 401 with
 * `resource_metadata` (RFC 9728) without a valid token, 403 `insufficient_scope` for the tool `write_note`
 * without `mcp:write`. Tools: echo, add, whoami, count (streams progress), follow (progress on `emit`).
 */
export async function everythingServer(options: {
  authorizationServer: Pick<UpstreamAuthorizationServer, "issuer" | "verify">;
  port?: number;
  portSetting?: string;
  /** Published as `scopes_supported`; default `mcp:read`. */
  scopesSupported?: readonly string[];
}): Promise<EverythingServer> {
  const transports = new Map<string, StreamableHTTPServerTransport>();
  const signals = new EventEmitter().setMaxListeners(0);
  const { requests, handle } = recordRequests(serve);
  const listener = await listen(handle, options.port, options.portSetting);
  const url = `${listener.url}/mcp`;
  const metadataPath = "/.well-known/oauth-protected-resource/mcp";

  async function serve(request: IncomingMessage, response: ServerResponse, body: string): Promise<void> {
    const path = request.url?.split("?")[0];
    if (path === metadataPath) {
      return json(response, 200, {
        resource: url,
        resource_name: "Everything",
        authorization_servers: [options.authorizationServer.issuer],
        scopes_supported: options.scopesSupported ?? ["mcp:read"],
        bearer_methods_supported: ["header"],
      });
    }
    if (path !== "/mcp") return json(response, 404, { error: "not_found" });
    const auth = await authenticate(request);
    const challenge = `Bearer resource_metadata="${listener.url}${metadataPath}"`;
    if (!auth) {
      const error = request.headers.authorization ? ', error="invalid_token"' : "";
      return json(response, 401, { error: "unauthorized" }, { "www-authenticate": challenge + error });
    }
    const message: unknown = body ? JSON.parse(body) : undefined;
    if (callsTool(message, "write_note") && !auth.scopes.includes("mcp:write")) {
      const detail = ', error="insufficient_scope", scope="mcp:read mcp:write"';
      return json(response, 403, { error: "insufficient_scope" }, { "www-authenticate": challenge + detail });
    }
    const transport = await transportFor(request, message);
    if (!transport) return json(response, 404, { error: "unknown session" });
    await transport.handleRequest(Object.assign(request, { auth }), response, message);
  }

  async function authenticate(request: IncomingMessage): Promise<AuthInfo | undefined> {
    const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? "")?.[1];
    const grant = token && (await options.authorizationServer.verify(token, url));
    if (!token || !grant) return undefined;
    return {
      token,
      clientId: grant.clientId,
      scopes: [...grant.scopes],
      extra: { account: grant.account },
    };
  }

  async function transportFor(request: IncomingMessage, message: unknown) {
    const session = request.headers["mcp-session-id"];
    if (typeof session === "string") return transports.get(session);
    if (!hasMethod(message, "initialize")) return undefined;
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => {
        transports.set(id, transport);
      },
      onsessionclosed: (id) => {
        transports.delete(id);
      },
    });
    await mcpServer(signals).connect(transport);
    return transport;
  }

  return {
    url,
    port: listener.port,
    requests,
    async followed() {
      if (signals.listenerCount("follow") === 0) await once(signals, "followed");
    },
    emit: (message) => signals.emit("follow", message),
    finish: () => signals.emit("follow", undefined),
    async close() {
      for (const transport of transports.values()) await transport.close();
      await listener.close();
    },
  };
}

function mcpServer(signals: EventEmitter): McpServer {
  const server = new McpServer({ name: "everything", version: "1.0.0" });
  const say = (text: string) => ({ content: [{ type: "text" as const, text }] });
  server.registerTool(
    "echo",
    { description: "Says what you say", inputSchema: { message: z.string() } },
    ({ message }) => say(message),
  );
  server.registerTool(
    "add",
    { description: "Adds two numbers", inputSchema: { a: z.number(), b: z.number() } },
    ({ a, b }) => say(String(a + b)),
  );
  server.registerTool("whoami", { description: "Names the account this server sees" }, ({ authInfo }) =>
    say(String(authInfo?.extra?.account)),
  );
  server.registerTool("write_note", { description: "Needs the scope mcp:write" }, () => say("written"));
  server.registerTool(
    "count",
    {
      description: "Counts aloud, one progress notification per number",
      inputSchema: { to: z.number().int().max(1000), interval_ms: z.number().max(10_000).default(200) },
    },
    async ({ to, interval_ms }, { _meta, sendNotification, signal }) => {
      for (let progress = 1; progress <= to && !signal.aborted; progress += 1) {
        await new Promise((resolve) => setTimeout(resolve, interval_ms));
        if (_meta?.progressToken === undefined) continue;
        const params = { progressToken: _meta.progressToken, progress, total: to };
        await sendNotification({ method: "notifications/progress", params });
      }
      return say(`counted to ${to}`);
    },
  );
  server.registerTool(
    "follow",
    { description: "Streams what the server's owner emits, until it finishes" },
    async ({ _meta, sendNotification, signal }) => {
      let progress = 0;
      const messages = on(signals, "follow", { signal });
      signals.emit("followed");
      for await (const [message] of messages) {
        if (message === undefined) break;
        progress += 1;
        if (_meta?.progressToken === undefined) continue;
        const params = { progressToken: _meta.progressToken, progress, message: String(message) };
        await sendNotification({ method: "notifications/progress", params });
      }
      return say(`followed ${progress}`);
    },
  );
  return server;
}

function hasMethod(message: unknown, method: string): message is { method: string; params?: unknown } {
  return typeof message === "object" && message !== null && "method" in message && message.method === method;
}

function callsTool(message: unknown, name: string): boolean {
  if (!hasMethod(message, "tools/call")) return false;
  const { params } = message;
  return typeof params === "object" && params !== null && "name" in params && params.name === name;
}

function json(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
}
