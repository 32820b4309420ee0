import { sentence } from "../config/sentence.ts";
import type { RefusedRequests } from "./policy-decision.ts";

/** JSON-RPC 2.0 section 5.1. */
const invalidRequest = -32600;
const invalidParams = -32602;
const internalError = -32603;

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
 * The body of an HTTP error of ours. To a call at an MCP server, 403 and 429 are a JSON-RPC error without an id (MCP 2025-06-18,
 * Streamable HTTP), beside the members that all have. Nothing else is: for a 400 or 5xx with such an error the Rust SDK
 * (rmcp 3.11) tells its caller nothing, who then waits for an answer.
 *
 * @param status of HTTP
 * @param reason stable word for programs
 * @param description for a person
 * @param isCall whether it may have been posted to an MCP server
 */
export function denialBody(
  status: number,
  reason: string,
  description: string,
  requestId: string,
  isCall: boolean,
): string {
  const beside = { error_description: description, request_id: requestId };
  if (!isCall || (status !== 403 && status !== 429)) return JSON.stringify({ error: reason, ...beside });
  const code = status === 429 ? internalError : invalidRequest;
  const error = { code, message: sentence(description), data: { reason, request_id: requestId } };
  return JSON.stringify({ jsonrpc: "2.0", id: null, error, ...beside });
}
