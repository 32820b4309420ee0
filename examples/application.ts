import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { html } from "ghtml";
import { createRemoteJWKSet, customFetch, type JWTPayload, jwtVerify } from "jose";

/** One entry of the listing. */
interface McpServer {
  readonly name: string;
  readonly url: string;
  readonly connected: boolean;
  readonly needs_oauth: boolean;
}

/**
 * A web application behind a client route (docs/applications.md), without sign-in, OAuth client or token store. Every request carries the
 * signed-in user's external token. With it, the application lists the user's MCP servers, redirects the browser to connect one, calls tools,
 * and disconnects servers.
 *
 * @param options.publicUrl the client route's `from`: where browsers reach this application, and this application the gateway.
 */
export function exampleApplication(options: { publicUrl: string; fetch?: typeof fetch }): Server {
  const { publicUrl, fetch = globalThis.fetch } = options;
  const gateway = (path: string) => new URL(`/.pomerium/mcp/${path}`, publicUrl);

  // docs: user
  const keys = createRemoteJWKSet(new URL("/.well-known/pomerium/jwks.json", publicUrl), {
    [customFetch]: (url, init) => fetch(url, init),
  });
  async function user(assertion: string): Promise<JWTPayload> {
    const { payload } = await jwtVerify(assertion, keys, {
      issuer: new URL(publicUrl).host,
      audience: publicUrl.replace(/\/$/, ""), // the route's `from`
      algorithms: ["ES256"],
    });
    return payload; // sub, email, name, groups, and the claims of jwt_claims_headers
  }
  // docs: end

  // docs: list
  async function list(token: string): Promise<McpServer[]> {
    const response = await fetch(gateway("routes"), { headers: { authorization: `Bearer ${token}` } });
    if (!response.ok) throw new Error(`the list of servers could not be read: HTTP ${response.status}`);
    const { servers } = (await response.json()) as { servers: McpServer[] };
    return servers;
  }
  // docs: end

  // docs: connect
  function connectLink(server: McpServer): string {
    const link = new URL("/.pomerium/mcp/connect", server.url);
    link.searchParams.set("route", server.url);
    link.searchParams.set("redirect_url", publicUrl);
    return link.href;
  }
  // docs: end

  // docs: call
  async function withServer<T>(url: string, token: string, use: (client: Client) => Promise<T>): Promise<T> {
    const client = new Client({ name: "example-application", version: "1.0.0" });
    const requestInit = { headers: { authorization: `Bearer ${token}` } };
    await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit, fetch }));
    try {
      return await use(client);
    } finally {
      await client.close();
    }
  }
  // docs: end

  // docs: disconnect
  async function disconnect(token: string, url: string): Promise<void> {
    const response = await fetch(gateway("routes/disconnect"), {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({ routes: [url] }),
    });
    if (!response.ok) throw new Error(`the server could not be disconnected: HTTP ${response.status}`);
  }
  // docs: end

  async function overview(token: string, url: URL, who: JWTPayload): Promise<string> {
    const rows = (await list(token)).map((server) => {
      const field = html`<input type="hidden" name="server" value="${server.url}">`;
      const tools = html`<form action="/tools">!${field}<button>Tools of ${server.name}</button></form>`;
      const end = html`<form method="post" action="/disconnect">!${field}<button>Disconnect ${server.name}</button></form>`;
      const begin = html`<a href="${connectLink(server)}">Connect ${server.name}</a>`;
      const buttons = server.connected ? tools + (server.needs_oauth ? end : "") : begin;
      return html`<li><h2>${server.name}</h2><p>${server.connected ? "connected" : "not connected"}</p>!${buttons}</li>`;
    });
    const error = url.searchParams.get("connect_error");
    const notice = error ? html`<p role="status">Not connected: ${error}</p>` : "";
    return html`<h1>Your servers</h1><p>Signed in as ${String(who.name ?? who.sub)}</p>!${notice}<ul>!${rows.join("")}</ul>`;
  }

  async function tools(token: string, url: URL): Promise<string> {
    const server = url.searchParams.get("server") ?? "";
    return withServer(server, token, async (client) => {
      const { tools: found } = await client.listTools();
      const items = found.map((tool) => html`<li>${tool.name}</li>`);
      const wanted = found.find((tool) => tool.name === "whoami");
      const result = wanted ? await client.callTool({ name: wanted.name, arguments: {} }) : undefined;
      return html`<h1>Tools</h1><ul>!${items.join("")}</ul><pre>${result ? JSON.stringify(result.content) : ""}</pre><a href="/">Back</a>`;
    });
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", publicUrl);
    // Requests without a session do not get here. A user without any server to use has no token.
    const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? "")?.[1];
    if (!token) return page(response, "<h1>Your servers</h1><p>There is no server you may use.</p>");
    if (request.method === "POST" && url.pathname === "/disconnect") {
      await disconnect(token, new URLSearchParams(await text(request)).get("server") ?? "");
      response.writeHead(303, { location: "/" }).end();
      return;
    }
    if (url.pathname === "/tools") return page(response, await tools(token, url));
    const who = await user(String(request.headers["x-pomerium-jwt-assertion"] ?? ""));
    page(response, await overview(token, url, who));
  }

  return createServer((request, response) => {
    serve(request, response).catch((error: Error) => {
      response.writeHead(502, { "content-type": "text/plain" }).end(error.message);
    });
  });
}

function page(response: ServerResponse, body: string): void {
  response.setHeader("content-type", "text/html; charset=utf-8");
  response.end(
    `<!doctype html><html lang="en"><title>Example application</title><main>${body}</main></html>`,
  );
}

async function text(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

if (import.meta.main) {
  const { PUBLIC_URL, PORT = "3000" } = process.env;
  if (!PUBLIC_URL) throw new Error("set PUBLIC_URL to the client route's from: https://app.example.com");
  exampleApplication({ publicUrl: PUBLIC_URL }).listen(Number(PORT), "127.0.0.1");
}
