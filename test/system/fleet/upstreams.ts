import { json } from "node:stream/consumers";
import { type Listener, listen } from "../../../dev/demo/listen.ts";

/** MCP servers that compare the credential of every call with their own. */
export interface Upstreams {
  /** Settings of a route to one of them, with its credential. */
  settings(index: number): { readonly to: string; readonly mcp: object };
  /** Calls that arrived with another one's credential, or with none. */
  readonly confused: readonly string[];
  close(): Promise<void>;
}

/** Starts `count` servers; the result of a call is the server's number. */
export async function startUpstreams(count: number): Promise<Upstreams> {
  const confused: string[] = [];
  const servers: Listener[] = [];
  for (let index = 0; index < count; index++)
    servers.push(
      await listen((request, response) => {
        const key = request.headers["x-api-key"];
        if (key !== keyOf(index)) confused.push(`server ${index} got ${key}`);
        // The event stream that an MCP client asks for.
        if (request.method !== "POST") return response.writeHead(405).end();
        return void json(request).then((body) => {
          const { id, method } = Object(body);
          if (id === undefined) return response.writeHead(202).end();
          const result = method === "initialize" ? initialized : { server: index };
          response.setHeader("content-type", "application/json");
          return response.end(JSON.stringify({ jsonrpc: "2.0", id, result }));
        });
      }),
    );
  return {
    settings: (index) => ({
      // By name: Envoy resolves it before it uses the cluster.
      to: `http://localhost:${servers[index]?.port}/mcp`,
      mcp: { server: { upstream_auth: { api_key: { header: "x-api-key", value: keyOf(index) } } } },
    }),
    confused,
    close: async () => {
      for (const server of servers) await server.close();
    },
  };
}

const initialized = {
  protocolVersion: "2025-06-18",
  capabilities: {},
  serverInfo: { name: "upstream", version: "1.0.0" },
};
const keyOf = (index: number) => `credential-of-server-${index}`;
