import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:https";
import { connect } from "node:net";
import { type Listener, listen } from "../../../../dev/demo/listen.ts";

const native = {
  grant_types: ["authorization_code", "refresh_token"],
  response_types: ["code"],
  token_endpoint_auth_method: "none",
  redirect_uris: ["http://localhost/callback", "http://127.0.0.1/callback"],
};

/**
 * Client documents of clients that are identified by one (November 2026), as far as is public: redirect URIs on loopback
 * without a port, any port at login (https://github.com/anthropics/claude-code/issues/42301; OpenAI's documentation of
 * MCP in Codex says the same of its own). The other members are those of a public client; names are ours.
 */
const documents: Readonly<Record<string, object>> = {
  "https://claude.ai/oauth/claude-code-client-metadata": { client_name: "Claude Code", ...native },
  "https://chatgpt.com/oauth/codex/client.json": { client_name: "Codex", ...native },
};

/** Host names that the certificate must contain. */
export const documentHosts = Object.keys(documents).map((url) => new URL(url).hostname);

/**
 * An outbound proxy, as companies have it, behind which the client documents are published: what is tested here must
 * not hang on the internet.
 * @param files certificate and key of the hosts; read on first use
 */
export async function publishedDocuments(files: {
  readonly certificate: string;
  readonly key: string;
}): Promise<Pick<Listener, "url" | "close">> {
  let web: Promise<Server> | undefined;
  async function start(): Promise<Server> {
    const [cert, key] = await Promise.all([readFile(files.certificate), readFile(files.key)]);
    const server = createServer({ cert, key }, (request, response) => {
      const url = `https://${request.headers.host}${request.url}`;
      const found = documents[url];
      response.writeHead(found ? 200 : 404, { "content-type": "application/json" });
      response.end(JSON.stringify({ client_id: url, ...found }));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return server;
  }
  const proxy = await listen((_, response) => void response.writeHead(405).end());
  proxy.server.on("connect", (request, socket, head) => {
    const hang = () => socket.destroy();
    socket.on("error", hang);
    const [host] = (request.url ?? "").split(":");
    if (!host || !documentHosts.includes(host)) return void socket.end("HTTP/1.1 403 Forbidden\r\n\r\n");
    web ??= start();
    web.then((server) => {
      const address = server.address();
      if (typeof address !== "object" || !address) return hang();
      const inner = connect(address.port, "127.0.0.1", () => {
        socket.write("HTTP/1.1 200 OK\r\n\r\n");
        inner.write(head);
        inner.pipe(socket).pipe(inner);
      });
      inner.on("error", hang);
      return undefined;
    }, hang);
  });
  return {
    url: proxy.url,
    async close() {
      await proxy.close();
      const server = await web?.catch(() => undefined);
      server?.closeAllConnections();
      server?.close();
    },
  };
}
