import { type ClientRequest, type IncomingMessage, request } from "node:http";
import type { TestReplicas } from "./replicas.ts";

/** Requests without an SDK, to disconnect or to stop reading at any moment. */
export interface RawClient {
  /** The headers of a request of this session, or of one of 2026-07-28. */
  readonly headers: Readonly<Record<string, string>>;
  post(message: object, headers?: Record<string, string>): Promise<Response>;
  /** A request whose response the caller reads, or not. */
  send(method: "GET" | "POST" | "DELETE", message?: object, replica?: number): ClientRequest;
}

const accept = { accept: "application/json, text/event-stream", "content-type": "application/json" };

export function rawClient(replicas: TestReplicas, more: Record<string, string> = {}): RawClient {
  const headers = { ...accept, authorization: `Bearer ${replicas.token}`, ...more };
  return {
    headers,
    post: (message, own = {}) =>
      fetch(replicas.url(), {
        method: "POST",
        headers: { ...headers, ...own },
        body: JSON.stringify({ jsonrpc: "2.0", id: 1, ...message }),
      }),
    send(method, message, replica = 0) {
      const sent = request(replicas.url(replica), { method, headers, agent: false });
      sent.on("error", () => {});
      return sent.end(message && JSON.stringify({ jsonrpc: "2.0", id: 1, ...message }));
    },
  };
}

/** A client of 2025-11-25 with a session. */
export async function withSession(replicas: TestReplicas): Promise<RawClient> {
  const clientInfo = { name: "raw", version: "1" };
  const params = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo };
  const response = await rawClient(replicas).post({ method: "initialize", params });
  await response.text();
  const session = response.headers.get("mcp-session-id") ?? "";
  return rawClient(replicas, { "mcp-session-id": session, "mcp-protocol-version": "2025-11-25" });
}

/** Resolves with the response when its header has arrived. */
export function responded(sent: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    sent.once("response", resolve).once("error", reject);
  });
}
