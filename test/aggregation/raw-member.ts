import type { ServerResponse } from "node:http";
import { listen } from "../../dev/demo/listen.ts";

/** A member without an SDK, of 2025-11-25: for behavior that no SDK has. */
export interface RawMember {
  readonly url: string;
  /** Streams that are open, and how many were ever opened. */
  readonly streams: Set<ServerResponse>;
  opened(): number;
  /** False: streams are refused. */
  streaming: boolean;
  /** Calls of tools that were begun; they are never answered. */
  readonly calls: Set<ServerResponse>;
  close(): Promise<void>;
}

export async function rawMember(onStream: (stream: ServerResponse) => void = () => {}): Promise<RawMember> {
  const streams = new Set<ServerResponse>();
  const calls = new Set<ServerResponse>();
  let opened = 0;
  const state = { streaming: true };
  const listener = await listen(async (req, res) => {
    let text = "";
    for await (const chunk of req) text += chunk;
    const message = text === "" ? {} : JSON.parse(text);
    const reply = (content: object) =>
      res
        .writeHead(200, { "content-type": "application/json", "mcp-session-id": "s" })
        .end(JSON.stringify({ jsonrpc: "2.0", id: message.id, ...content }));
    if (req.method === "GET") {
      opened += 1;
      if (!state.streaming) return res.writeHead(503).end();
      streams.add(res);
      res.once("close", () => streams.delete(res));
      res.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
      return onStream(res);
    }
    switch (message.method) {
      case "initialize":
        return reply({
          result: {
            protocolVersion: "2025-11-25",
            capabilities: { tools: {}, logging: {} },
            serverInfo: { name: "raw", version: "1" },
          },
        });
      case "server/discover":
        return reply({ error: { code: -32601, message: "Method not found" } });
      case "tools/call":
        calls.add(res);
        return res.once("close", () => calls.delete(res));
      case "tools/list":
        return reply({ result: { tools: [{ name: "wait", inputSchema: { type: "object" } }] } });
      default:
        return message.id === undefined ? res.writeHead(202).end() : reply({ result: {} });
    }
  });
  const close = () => listener.close();
  return Object.assign(state, { url: `${listener.url}/mcp`, streams, opened: () => opened, calls, close });
}
