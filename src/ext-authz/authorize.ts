import type { Route } from "../model/route.ts";
import type { Subject } from "../model/subject.ts";
import {
  type DeniedRequests,
  type JsonRpcId,
  jsonRpcDenialBody,
  type PolicyReason,
} from "../policy/policy.ts";
import type { LimitReached } from "../policy/rate-limiter.ts";
import type { CheckDeps, Checked } from "./check-types.ts";
import { isLegacyPost, type RequestFacts } from "./request.ts";

export type AuthorizeResult =
  | { readonly ok: true; readonly tool?: string; readonly toolFilter?: string; readonly listId?: JsonRpcId }
  | { readonly ok: false; readonly checked: Checked };

/**
 * Applies the rate limits and policy to one request. A denial is 429, 403, or a JSON-RPC error, never a challenge: a
 * challenge would send the client into an authorization loop.
 */
export function authorize(
  facts: RequestFacts,
  route: Route,
  caller: Subject,
  deps: CheckDeps,
): AuthorizeResult {
  const { userId } = caller;
  const asked = { userId, route, now: Date.now() };
  const limited = deps.limiter.takeRequest(asked);
  if (limited) return tooMany(limited, route, userId);
  const verdict = deps.policies().forRoute(route.id).decide({
    caller,
    method: facts.method,
    path: facts.path,
    route,
    sourceIp: facts.sourceIp,
    now: asked.now,
    headers: facts.headers,
    body: facts.body,
    bodyIsText: facts.bodyIsText,
  });
  switch (verdict.kind) {
    case "allow": {
      const { tool, toolCalls, toolFilter, listId } = verdict;
      const called = toolCalls > 0 ? deps.limiter.takeToolCalls({ ...asked, count: toolCalls }) : undefined;
      return called ? tooMany(called, route, userId, tool) : { ok: true, tool, toolFilter, listId };
    }
    case "deny": {
      const { status, reason, message, waiting } = verdict;
      if (waiting) return denyInJsonRpc(waiting, { ...verdict, facts, route, userId });
      if (reason === "body_missing" && withoutBodies(facts)) return bodyNotSent(route, userId);
      const decision = { kind: "deny", status, code: reason, message, headers: [] } as const;
      return { ok: false, checked: { decision, reason, route, userId, rule: verdict.rule } };
    }
    case "deny_call":
      return denyInJsonRpc(verdict, { ...verdict, facts, route, userId });
  }
}

/** SDKs show the message of a JSON-RPC error that has the request's id, but the whole body of an HTTP error. */
function denyInJsonRpc(
  requests: DeniedRequests,
  {
    facts,
    route,
    userId,
    reason,
    rule,
    tool,
  }: {
    readonly facts: RequestFacts;
    readonly route: Route;
    readonly userId: string;
    readonly reason: PolicyReason;
    readonly rule: string;
    readonly tool?: string;
  },
): AuthorizeResult {
  const body = jsonRpcDenialBody(requests, facts.requestId);
  const headers = [["content-type", "application/json"]] as const;
  // An HTTP+SSE client ignores the body of a POST response: after a 200 it would wait on its stream.
  const status = isLegacyPost(facts, route) ? 403 : 200;
  const decision = { kind: "reply", status, headers, body } as const;
  return { ok: false, checked: { decision, reason, route, userId, tool, rule } };
}

/** Envoy names the upstream it routes to but does not announce bodies: policy inspects bodies only since its last change. */
function withoutBodies({ context }: RequestFacts): boolean {
  return context.upstream !== undefined && context.body === undefined;
}

function bodyNotSent(route: Route, userId: string): AuthorizeResult {
  const code = "body_not_sent";
  const message = "the policy of this server has changed, and Envoy has not loaded the change yet; try again";
  const headers = [["retry-after", "1"]] as const;
  const decision = { kind: "deny", status: 503, code, message, headers } as const;
  return { ok: false, checked: { decision, reason: code, route, userId } };
}

/**
 * Applies policy before the body is buffered: returns a denial that holds for any body, or nothing. Does not take from the
 * rate limits, which count the request once, with its body.
 */
export function authorizeBeforeBody(
  facts: RequestFacts,
  route: Route,
  caller: Subject,
  deps: Pick<CheckDeps, "policies">,
): Checked | undefined {
  const denial = deps.policies().forRoute(route.id).denyBeforeBody({
    caller,
    method: facts.method,
    path: facts.path,
    sourceIp: facts.sourceIp,
    now: Date.now(),
    headers: facts.headers,
  });
  if (!denial) return undefined;
  const { status, reason, message, rule } = denial;
  const decision = { kind: "deny", status, code: reason, message, headers: [] } as const;
  return { decision, reason, route, userId: caller.userId, rule };
}

function tooMany(
  { limit, retryAfterSeconds }: LimitReached,
  route: Route,
  userId: string,
  tool?: string,
): AuthorizeResult {
  const what = limit === "requests" ? "requests" : "tool calls";
  const message = `too many ${what} to ${route.name}; try again in ${retryAfterSeconds} s`;
  const headers = [["retry-after", String(retryAfterSeconds)]] as const;
  const decision = { kind: "deny", status: 429, code: "rate_limited", message, headers } as const;
  return { ok: false, checked: { decision, reason: `rate_limited_${limit}`, route, userId, tool } };
}
