import type { PolicyInput, Subject } from "../model/subject.ts";

/** Why a request was denied: a stable code for the caller, the log and the metric. */
export type PolicyReason =
  | "not_allowed"
  | "method_not_allowed"
  | "tool_not_allowed"
  | "batch_not_allowed"
  | "policy_error"
  | UnreadableReason;

/** Why a request body may mean something else to the MCP server than to us. */
export type UnreadableReason =
  | "http_method"
  | "unexpected_body"
  | "body_missing"
  | "body_too_large"
  | "body_incomplete"
  | "content_encoding"
  | "content_type"
  | "invalid_utf8"
  | "hidden_bytes"
  | "byte_order_mark"
  | "invalid_json"
  | "too_deep"
  | "duplicate_key"
  | "lookalike_key"
  | "not_json_rpc"
  | "empty_batch"
  | "batch_too_long"
  | "invalid_id"
  | "invalid_method"
  | "invalid_params"
  | "invalid_tool_name"
  | "header_mismatch";

/** A JSON-RPC id that every parser reads alike: a string or a safe integer. */
export type JsonRpcId = string | number;

/** One denied JSON-RPC request: its id, a message for the agent, a reason code. */
export interface DeniedRequest {
  readonly id: JsonRpcId;
  readonly message: string;
  readonly reason: PolicyReason;
}

/** The requests of a denied body that need a response. */
export interface DeniedRequests {
  /** One for each request of the body that has an id; at least one. */
  readonly denied: readonly DeniedRequest[];
  /** Whether the body is a JSON array: then the response is one, too. */
  readonly batch: boolean;
}

/**
 * The decision of policy on one request. `rule` goes to the audit event and the debug log, never to the caller.
 *
 * - `tool`, where the body is read: the names of the tools that it calls.
 * - `allow`: `toolCalls` counts against the tool-call rate limit. `toolFilter`, if present, must be passed to ext_proc (in the
 *   ext_authz metadata): the response may list tools that the caller must not see.
 * - `deny`: an HTTP error with `status`; `waiting` requests, if any, are answered as for `deny_call`.
 * - `deny_call`: an HTTP 200 whose body is `jsonRpcDenialBody(decision, requestId)`, so that agents read it.
 */
export type PolicyDecision =
  | {
      readonly kind: "allow";
      readonly rule: string;
      readonly tool?: string;
      readonly toolCalls: number;
      readonly toolFilter?: string;
      /** Id of the request for the list. */
      readonly listId?: JsonRpcId;
    }
  | {
      readonly kind: "deny";
      /** Name of the deciding rule, or `no rule`. */
      readonly rule: string;
      readonly reason: PolicyReason;
      readonly status: 400 | 403 | 413;
      readonly message: string;
      /** For a caller without access: the requests of the body, if it is short and readable. */
      readonly waiting?: DeniedRequests;
    }
  | (DeniedRequests & {
      readonly kind: "deny_call";
      readonly rule: string;
      readonly tool?: string;
      readonly reason: PolicyReason;
    });

/** The compiled policy of one route. Stateless and synchronous; nothing here throws. */
export interface RoutePolicy {
  readonly routeId: string;
  /**
   * Whether `decide` needs the raw body (for a tool policy or a tool-call rate limit). Envoy must send it as bytes
   * (`pack_as_bytes`): in a string it replaces invalid UTF-8, and we would read a different body than the upstream.
   */
  readonly needsBody: boolean;
  /** Bytes; 0 if no body is needed. */
  readonly maxBodyBytes: number;
  decide(input: PolicyInput): PolicyDecision;
  /** A denial that does not depend on the body; undefined: the body decides, or contains ids to answer. */
  denyBeforeBody(input: PolicyInput): Extract<PolicyDecision, { readonly kind: "deny" }> | undefined;
  /** Whether any request of this caller could be allowed now: for route listings and for the audiences of session tokens. */
  mayReach(caller: Subject, now: number): boolean;
}

/** A rule that cannot be compiled; its route denies all requests until it is fixed. */
export interface PolicyProblem {
  /** Absent: the top-level policy. */
  readonly routeId?: string;
  readonly rule: string;
  readonly message: string;
}

/** Every route's policy, compiled from one loaded configuration. */
export interface PolicyTable {
  /** The policy of an unknown route denies all requests. */
  forRoute(routeId: string): RoutePolicy;
  readonly problems: readonly PolicyProblem[];
}

/** JSON-RPC 2.0 section 5.1. */
const invalidRequest = -32600;
const invalidParams = -32602;

/**
 * The JSON-RPC response to denied calls: an error with each request's id, a message for the agent and `data: {request_id, reason}`;
 * -32602 for a call, -32600 if the caller has no access. Send it as HTTP 200, `Content-Type: application/json`,
 * `Cache-Control: no-store`.
 *
 * @param requestId identifies the request in the logs.
 */
export function jsonRpcDenialBody({ denied, batch }: DeniedRequests, requestId: string): string {
  const errors = denied.map(({ id, message, reason }) => ({
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
 * The body of the gateway's HTTP errors, including those for calls to an MCP server. It is not JSON-RPC, although MCP 2025-06-18
 * (Streamable HTTP) allows an error without an id: the Rust SDK drops it (rmcp 3.11.0 for 400 and 5xx, 3.1.4 also for 403 and 429),
 * and its caller hangs.
 *
 * @param reason stable error code
 * @param description for a person
 */
export function denialBody(reason: string, description: string, requestId: string): string {
  return JSON.stringify({ error: reason, error_description: description, request_id: requestId });
}
