import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";

/*
 * An MCP server that answers `tools/call` with a little JSON at once, and the token endpoint of its authorization server. Prints
 * its URL.
 */
let issued = 0;
const server = createServer(async (request, response) => {
  const answer = (body: object, status = 200) => {
    const text = JSON.stringify(body);
    response.writeHead(status, {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(text),
    });
    response.end(text);
  };
  if (request.url === "/token") {
    request.resume();
    const token = `ti-renewed-${++issued}-`.padEnd(800, "r");
    answer({ access_token: token, token_type: "Bearer", expires_in: 3600, refresh_token: `rt-${issued}` });
    return;
  }
  const call = (await json(request)) as { id?: number; method?: string };
  if (request.url === "/401") {
    answer({ error: "invalid_token" }, 401);
    return;
  }
  answer({
    jsonrpc: "2.0",
    id: call.id,
    result: { content: [{ type: "text", text: "called" }], isError: call.method !== "tools/call" },
  });
});
server.keepAliveTimeout = 120_000;
server.listen(0, "127.0.0.1", () =>
  console.log(`ready http://127.0.0.1:${(server.address() as AddressInfo).port}`),
);
process.on("SIGTERM", () => process.exit(0));
