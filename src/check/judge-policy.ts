import type { Route } from "../config/route.ts";
import type { PolicyCaller } from "../policy/policy-input.ts";
import { refusalBody } from "../policy/refusal-body.ts";
import type { CheckDeps } from "./check-deps.ts";
import type { Checked } from "./checked.ts";
import type { RequestFacts } from "./request-facts.ts";

type Judged =
  | { readonly ok: true; readonly toolFilter?: string }
  | { readonly ok: false; readonly checked: Checked };

/** Asks policy about one request. A refusal is 403 or a JSON-RPC error (F6.2), never a challenge (F2.5). */
export function judgePolicy(
  facts: RequestFacts,
  route: Route,
  caller: PolicyCaller,
  deps: CheckDeps,
): Judged {
  const verdict = deps.policies().forRoute(route.id).decide({
    caller,
    method: facts.method,
    path: facts.path,
    sourceIp: facts.sourceIp,
    now: Date.now(),
    headers: facts.headers,
    body: facts.rawBody,
  });
  const { userId } = caller;
  switch (verdict.kind) {
    case "allow":
      return { ok: true, toolFilter: verdict.toolFilter };
    case "deny": {
      const { status, reason, message } = verdict;
      const decision = { kind: "deny", status, code: reason, message, headers: [] } as const;
      return { ok: false, checked: { decision, reason, route, userId } };
    }
    case "refuse_call": {
      const body = refusalBody(verdict, facts.requestId);
      const headers = [["content-type", "application/json"]] as const;
      const decision = { kind: "reply", status: 200, headers, body } as const;
      return { ok: false, checked: { decision, reason: verdict.reason, route, userId } };
    }
  }
}
