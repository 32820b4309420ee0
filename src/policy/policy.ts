import type { PolicyInput, Subject } from "../model/subject.ts";

/** Why a request was not let through: a stable word for the caller, the log and the metric. */
export type PolicyReason =
  | "not_allowed"
  | "method_not_allowed"
  | "tool_not_allowed"
  | "batch_not_allowed"
  | "policy_error"
  | UnreadableReason;

/** Why a request body cannot be trusted to mean to the MCP server what it means to us. */
export type UnreadableReason =
  | "http_method"
  | "unexpected_body"
  | "body_missing"
  | "body_too_large"
  | "body_incomplete"
  | "content_encoding"
  | "content_type"
  | "invalid_utf8"
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

/** A JSON-RPC id that every parser reads alike: a string or an integer JavaScript holds exactly. */
export type JsonRpcId = string | number;

/** One refused JSON-RPC request: its id, a message for the agent, a reason code. */
export interface DeniedRequest {
  readonly id: JsonRpcId;
  readonly message: string;
  readonly reason: PolicyReason;
}

/** Who waits for an answer to a body of which nothing reaches the server. */
export interface DeniedRequests {
  /** One for each request of the body that carries an id; at least one. */
  readonly denied: readonly DeniedRequest[];
  /** Whether the body was a JSON array: the answer is one, too. */
  readonly batch: boolean;
}

/**
 * What policy says of one request. `rule` goes to the audit event and the debug log, never to the caller.
 *
 * - `allow`: go on. `toolCalls` is what to take from the tool-call rate limit. `toolFilter`, where present, must travel
 *   with the request (ext_authz metadata) to whoever sees the response: it may list tools, and not all may be shown.
 * - `deny`: an HTTP refusal with `status`; where there are `waiting` requests, they are answered as in `deny_call`.
 * - `deny_call`: an HTTP 200 whose body is `refusalBody(decision, requestId)`, so that agents read it.
 */
export type PolicyDecision =
  | {
      readonly kind: "allow";
      readonly rule: string;
      readonly toolCalls: number;
      readonly toolFilter?: string;
      /** Of the one request that asks for the list. */
      readonly listId?: JsonRpcId;
    }
  | {
      readonly kind: "deny";
      /** Name of the deciding rule, or `no rule`. */
      readonly rule: string;
      readonly reason: PolicyReason;
      readonly status: 400 | 403 | 413;
      readonly message: string;
      /** Of who may do nothing here: the requests of the body, where it is short and can be read. */
      readonly waiting?: DeniedRequests;
    }
  | (DeniedRequests & {
      readonly kind: "deny_call";
      readonly rule: string;
      readonly reason: PolicyReason;
    });

/** The compiled policy of one route. Stateless and synchronous; nothing here throws. */
export interface RoutePolicy {
  readonly routeId: string;
  /**
   * Whether `decide` wants the raw body (a tool policy, or a tool-call rate limit). Envoy must hand it over as bytes
   * (`pack_as_bytes`): as a string it replaces what is not UTF-8, and we would read another body than the upstream does.
   */
  readonly needsBody: boolean;
  /** Bytes; 0 where no body is needed. */
  readonly maxBodyBytes: number;
  decide(input: PolicyInput): PolicyDecision;
  /** The denial that is certain whatever the body says; undefined: the body decides, or holds the ids to answer. Reads no body. */
  denyBeforeBody(input: PolicyInput): Extract<PolicyDecision, { readonly kind: "deny" }> | undefined;
  /** Whether some request of this caller could be allowed now: which routes a listing shows, which audiences a session's token has. */
  mayReach(caller: Subject, now: number): boolean;
}

/** A rule that could not be compiled; its route is closed to everybody until it is mended. */
export interface PolicyProblem {
  /** Absent: the top-level policy. */
  readonly routeId?: string;
  readonly rule: string;
  readonly message: string;
}

/** Every route's policy, compiled from one loaded configuration. */
export interface PolicyTable {
  /** An unknown route's policy denies everybody. */
  forRoute(routeId: string): RoutePolicy;
  readonly problems: readonly PolicyProblem[];
}

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
export function jsonRpcDenialBody({ denied: refused, batch }: DeniedRequests, requestId: string): string {
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
