import type { PolicyDecision } from "./policy-decision.ts";

/**
 * The JSON-RPC answer to refused calls (F6.2): error -32602 with each request's id, a message for the agent and
 * `data: {request_id, reason}`. Send it as HTTP 200, `Content-Type: application/json`, `Cache-Control: no-store`.
 *
 * @param requestId what the logs name this request by.
 */
export function refusalBody(
  decision: Extract<PolicyDecision, { kind: "refuse_call" }>,
  requestId: string,
): string {
  const errors = decision.refused.map(({ id, message, reason }) => ({
    jsonrpc: "2.0",
    id,
    error: { code: -32602, message, data: { request_id: requestId, reason } },
  }));
  return JSON.stringify(decision.batch ? errors : errors[0]);
}
