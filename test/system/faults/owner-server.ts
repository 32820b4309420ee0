import type { ServerResponse } from "node:http";
import { type Listener, listen } from "../../../dev/demo/listen.ts";
import type { RotatingAuthorizationServer } from "./rotating-authorization-server.ts";

export interface OwnerServer extends Pick<Listener, "url" | "close"> {
  /** Requests without exactly one upstream token: with the gateway's own JWT, two tokens, or none. */
  strangeCredentials(): number;
  /** List requests of the route `inspected` that are being answered endlessly, one byte at a time. */
  endless(): number;
  /** Headers of the newest request, names and values alternating. */
  newestHeaders(): readonly string[];
}

/**
 * A fast stand-in for an MCP server: responds with the owner of the call's token, so that a wrong token is detected. Rejects tokens
 * that its authorization server no longer knows (401 `invalid_token`).
 */
export async function ownerServer(tokens: RotatingAuthorizationServer): Promise<OwnerServer> {
  let strange = 0;
  let newest: readonly string[] = [];
  const endless = new Set<ServerResponse>();
  const dripping = setInterval(() => {
    for (const response of endless) response.write(" ");
  }, 5);
  const server = await listen((request, response) => {
    request.resume();
    newest = request.rawHeaders;
    const sent = request.headersDistinct.authorization ?? [];
    const token = /^Bearer (at_\S+)$/.exec(sent.join(","))?.[1];
    if (request.url?.startsWith("/inspected")) {
      response.writeHead(200, { "content-type": "application/json" });
      response.write('{"jsonrpc":"2.0","id":1,"result":{"tools":[');
      endless.add(response);
      response.once("close", () => endless.delete(response));
      return;
    }
    if (!token && !request.url?.startsWith("/open")) strange++;
    const owner = token ? tokens.ownerOf(token) : undefined;
    if (!owner && !request.url?.startsWith("/open")) {
      response.writeHead(401, { "www-authenticate": 'Bearer error="invalid_token"' }).end();
      return;
    }
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ jsonrpc: "2.0", id: 1, result: { owner, path: request.url } }));
  });
  return {
    url: server.url,
    async close() {
      clearInterval(dripping);
      await server.close();
    },
    strangeCredentials: () => strange,
    endless: () => endless.size,
    newestHeaders: () => newest,
  };
}
