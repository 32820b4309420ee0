import type { Route } from "../model/route.ts";
import type { Subject } from "../model/subject.ts";
import {
  type DeniedRequests,
  type JsonRpcId,
  jsonRpcDenialBody,
  type PolicyReason,
} from "../policy/policy.ts";
import type { LimitReached } from "../policy/rate-limiter.ts";
import { isLegacyPost, type RequestFacts } from "./request.ts";
import type { CheckDeps, Checked } from "./stage.ts";

export type Judged =
  | { readonly ok: true; readonly toolFilter?: string; readonly listId?: JsonRpcId }
  | { readonly ok: false; readonly checked: Checked };

/**
 * Asks the rate limits and policy about one request. A refusal is 429, 403, or a JSON-RPC error, never a
 * challenge, which would send the client round in circles.
 */
export function authorize(facts: RequestFacts, route: Route, caller: Subject, deps: CheckDeps): Judged {
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
    body: facts.rawBody,
  });
  switch (verdict.kind) {
    case "allow": {
      const { toolCalls, toolFilter, listId } = verdict;
      const called = toolCalls > 0 ? deps.limiter.takeToolCalls({ ...asked, count: toolCalls }) : undefined;
      return called ? tooMany(called, route, userId) : { ok: true, toolFilter, listId };
    }
    case "deny": {
      const { status, reason, message, waiting } = verdict;
      if (waiting) return refused(waiting, { ...verdict, facts, route, userId });
      if (reason === "body_missing" && withoutBodies(facts)) return bodyNotSent(route, userId);
      const decision = { kind: "deny", status, code: reason, message, headers: [] } as const;
      return { ok: false, checked: { decision, reason, route, userId, rule: verdict.rule } };
    }
    case "refuse_call":
      return refused(verdict, { ...verdict, facts, route, userId });
  }
}

/** SDKs show the sentence of a JSON-RPC error with the id of the request, and the whole body of any HTTP error. */
function refused(
  requests: DeniedRequests,
  {
    facts,
    route,
    userId,
    reason,
    rule,
  }: {
    readonly facts: RequestFacts;
    readonly route: Route;
    readonly userId: string;
    readonly reason: PolicyReason;
    readonly rule: string;
  },
): Judged {
  const body = jsonRpcDenialBody(requests, facts.requestId);
  const headers = [["content-type", "application/json"]] as const;
  // A client of HTTP+SSE reads no answer to a post: with 200 it would wait on its stream.
  const status = isLegacyPost(facts, route) ? 403 : 200;
  const decision = { kind: "reply", status, headers, body } as const;
  return { ok: false, checked: { decision, reason, route, userId, rule } };
}

/** Envoy says which upstream it routes to, and not that it sends bodies: policy has just begun to look at them. */
function withoutBodies({ context }: RequestFacts): boolean {
  return context.upstream !== undefined && context.body === undefined;
}

function bodyNotSent(route: Route, userId: string): Judged {
  const code = "body_not_sent";
  const message = "the policy of this server has changed, and Envoy has not taken it yet; try again";
  const headers = [["retry-after", "1"]] as const;
  const decision = { kind: "deny", status: 503, code, message, headers } as const;
  return { ok: false, checked: { decision, reason: code, route, userId } };
}

/**
 * What policy can say before a body is buffered: a denial that is certain, or nothing. Takes nothing from the rate limits, which
 * count the request once, with its body.
 */
export function judgeBeforeBody(
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

function tooMany({ limit, retryAfterSeconds }: LimitReached, route: Route, userId: string): Judged {
  const what = limit === "requests" ? "requests" : "tool calls";
  const message = `too many ${what} to ${route.name}; try again in ${retryAfterSeconds} s`;
  const headers = [["retry-after", String(retryAfterSeconds)]] as const;
  const decision = { kind: "deny", status: 429, code: "rate_limited", message, headers } as const;
  return { ok: false, checked: { decision, reason: `rate_limited_${limit}`, route, userId } };
}
