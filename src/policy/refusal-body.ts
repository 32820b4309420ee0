import type { RefusedRequests } from "./policy.ts";

/** JSON-RPC 2.0 section 5.1. */
const invalidRequest = -32600;
const invalidParams = -32602;

/**
 * The JSON-RPC answer to refused calls: an error with each request's id, a message for the agent and
 * `data: {request_id, reason}`; -32602 for a call, -32600 where the caller may do nothing here. Send it as HTTP 200,
 * `Content-Type: application/json`, `Cache-Control: no-store`.
 *
 * @param requestId what the logs name this request by.
 */
export function refusalBody({ refused, batch }: RefusedRequests, requestId: string): string {
  const errors = refused.map(({ id, message, reason }) => ({
    jsonrpc: "2.0",
    id,
    error: {
      code: reason === "not_allowed" ? invalidRequest : invalidParams,
      message,
      data: { request_id: requestId, reason },
    },
  }));
  return JSON.stringify(batch ? errors : errors[0]);
}

/**
 * The body of an HTTP error of ours, for calls at an MCP server, too. It is not JSON-RPC, although MCP 2025-06-18 (Streamable HTTP)
 * lets it be an error without an id: the Rust SDK drops one (rmcp 3.11.0 for 400 and 5xx, 3.1.4 for 403 and 429, too), and its caller
 * hangs.
 *
 * @param reason stable word for programs
 * @param description for a person
 */
export function denialBody(reason: string, description: string, requestId: string): string {
  return JSON.stringify({ error: reason, error_description: description, request_id: requestId });
}
