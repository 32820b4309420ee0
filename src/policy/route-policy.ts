import type { Config } from "../config/config.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { inspectedBodyBytes, type PolicySource, type Route } from "../model/route.ts";
import type { PolicyInput } from "../model/subject.ts";
import type { PolicyFacts } from "./criteria.ts";
import { type JsonRpcMessage, readJsonRpc, tooLarge } from "./json-rpc.ts";
import { PolicyError } from "./matchers.ts";
import type {
  DeniedRequest,
  DeniedRequests,
  JsonRpcId,
  PolicyDecision,
  PolicyProblem,
  PolicyReason,
  PolicyTable,
  RoutePolicy,
} from "./policy.ts";
import { type CompiledRules, compileRules, type Ruling } from "./rules.ts";

type Denial = Extract<PolicyDecision, { kind: "deny" | "deny_call" }>;

/**
 * Of who may do nothing here, only bodies up to this are taken and read, for the ids to answer, bytes: whoever holds a token could
 * fill memory with them.
 */
const answeredBytes = 16 * 1024;

/**
 * One route's policy over its compiled rules.
 *
 * @param maxBodyBytes how much of a request's body to read; 0: bodies are not looked at.
 */
export function compileRoutePolicy(routeId: string, rules: CompiledRules, maxBodyBytes: number): RoutePolicy {
  return {
    routeId,
    needsBody: maxBodyBytes > 0,
    maxBodyBytes,
    decide(input) {
      try {
        return maxBodyBytes > 0 ? decideCalls(rules, input, maxBodyBytes) : decideRequest(rules, input);
      } catch {
        // Whatever surprised us (a hostile claim, a defect of ours), the answer to a question we cannot answer is no.
        return deny("no rule", "policy_error");
      }
    },
    denyBeforeBody(input) {
      try {
        const who = rules.rule(factsOf(input));
        if (who.verdict === 0)
          return isAnswered(input, maxBodyBytes) ? undefined : deny(who.rule, "not_allowed");
        // Envoy still asks as long as it has not heard that bodies are not looked at any more.
        if (maxBodyBytes === 0) return undefined;
        if (Number(input.headers["content-length"] ?? 0) <= maxBodyBytes) return undefined;
        const { reason, status, message } = tooLarge(maxBodyBytes);
        return { kind: "deny", rule: "readable body", reason, status, message };
      } catch {
        return deny("no rule", "policy_error");
      }
    },
    mayReach(caller, now) {
      try {
        return rules.rule({ caller, now }).verdict > 0;
      } catch {
        return false;
      }
    },
  };
}

/** No body: who, when, from where, which HTTP method and path. */
function decideRequest(rules: CompiledRules, input: PolicyInput): PolicyDecision {
  const { verdict, rule } = rules.rule({ ...factsOf(input), tool: null });
  return verdict === 2 ? { kind: "allow", rule, toolCalls: 0 } : deny(rule, "not_allowed");
}

function decideCalls(rules: CompiledRules, input: PolicyInput, maxBodyBytes: number): PolicyDecision {
  const facts = factsOf(input);
  // Who could do nothing here, whatever the body says, hears nothing of how it was read.
  const who = rules.rule(facts);
  if (who.verdict === 0) return { ...deny(who.rule, "not_allowed"), ...waitingIn(input, maxBodyBytes) };

  const body = readJsonRpc(input, maxBodyBytes);
  if (!body.ok) {
    return {
      kind: "deny",
      rule: "readable body",
      reason: body.reason,
      status: body.status,
      message: body.message,
    };
  }
  if (body.messages.length === 0) {
    const ruling = rules.rule({ ...facts, tool: null });
    return ruling.verdict === 2
      ? allow(ruling, rules, input, body.messages)
      : deny(ruling.rule, "not_allowed");
  }
  const rulings = body.messages.map((message) => rules.rule({ ...facts, tool: toolOf(message) }));
  const refused = rulings.findIndex((ruling) => ruling.verdict !== 2);
  if (refused < 0) return allow(rulings[0] ?? who, rules, input, body.messages);
  return denyCalls(body.messages, rulings, refused, body.batch);
}

/** Whether a body may be taken although its sender may do nothing here: `waitingIn` will find who waits for an answer. */
function isAnswered({ method, headers }: PolicyInput, maxBodyBytes: number): boolean {
  const length = headers["content-length"] ?? "";
  // A longer number would be one that is larger, too.
  const announced = /^\d{1,9}$/.test(length) ? Number(length) : 0;
  return method === "POST" && announced > 0 && announced <= Math.min(answeredBytes, maxBodyBytes);
}

function waitingIn(input: PolicyInput, maxBodyBytes: number): { readonly waiting?: DeniedRequests } {
  const body = readJsonRpc(input, Math.min(answeredBytes, maxBodyBytes));
  if (!body.ok) return {};
  const refused = body.messages.flatMap((message) =>
    message.kind === "request"
      ? [{ id: message.id, reason: "not_allowed", message: words.not_allowed } as const]
      : [],
  );
  return refused.length === 0 ? {} : { waiting: { denied: refused, batch: body.batch } };
}

function allow(
  { rule }: Ruling,
  rules: CompiledRules,
  input: PolicyInput,
  messages: readonly JsonRpcMessage[],
): PolicyDecision {
  const toolCalls = messages.filter((message) => toolOf(message) !== null).length;
  const mayList =
    input.method === "GET" ||
    messages.some((message) => "method" in message && message.method === "tools/list");
  if (!mayList) return { kind: "allow", rule, toolCalls };
  // The listed tools would be called by POST, whatever method asks for the list.
  const callable = rules.callableTools({ ...factsOf({ ...input, method: "POST" }) });
  return callable === true
    ? { kind: "allow", rule, toolCalls }
    : { kind: "allow", rule, toolCalls, toolFilter: JSON.stringify(callable), ...listIdOf(messages) };
}

function listIdOf(messages: readonly JsonRpcMessage[]): { readonly listId?: JsonRpcId } {
  const [only] = messages;
  return messages.length === 1 && only?.kind === "request" ? { listId: only.id } : {};
}

/** One forbidden call refuses the whole body: nothing of it reaches the server, and every request in it is told so. */
function denyCalls(
  messages: readonly JsonRpcMessage[],
  rulings: readonly Ruling[],
  first: number,
  batch: boolean,
): Denial {
  const rule = rulings[first]?.rule ?? "no rule";
  const reason = reasonFor(messages[first]);
  const refused = messages.flatMap((message, index) => {
    if (message.kind !== "request") return [];
    const forbidden = rulings[index]?.verdict !== 2;
    const answer: DeniedRequest = forbidden
      ? { id: message.id, reason: reasonFor(message), message: messageFor(message) }
      : { id: message.id, reason: "batch_not_allowed", message: words.batch_not_allowed };
    return [answer];
  });
  // Without an id there is nobody to answer in JSON-RPC.
  return refused.length === 0
    ? deny(rule, reason)
    : { kind: "deny_call", rule, reason, denied: refused, batch };
}

function reasonFor(message: JsonRpcMessage | undefined): "tool_not_allowed" | "method_not_allowed" {
  return message && toolOf(message) !== null ? "tool_not_allowed" : "method_not_allowed";
}

function messageFor(message: JsonRpcMessage): string {
  const tool = toolOf(message);
  if (tool !== null)
    return `The tool ${JSON.stringify(tool)} is not allowed for you here. Do not call it again.`;
  return "method" in message
    ? `The method ${JSON.stringify(message.method)} is not allowed for you here.`
    : words.method_not_allowed;
}

function toolOf(message: JsonRpcMessage): string | null {
  return message.kind === "response" ? null : (message.tool ?? null);
}

function factsOf({ caller, now, method, path, route, sourceIp }: PolicyInput): PolicyFacts {
  return { caller, now, http: { method, path, route, ...(sourceIp === undefined ? {} : { sourceIp }) } };
}

function deny(rule: string, reason: keyof typeof words): Extract<Denial, { kind: "deny" }> {
  return { kind: "deny", rule, reason, status: 403, message: words[reason] };
}

const words = {
  not_allowed: "You do not have access to this server.",
  method_not_allowed: "This method is not allowed for you here.",
  tool_not_allowed: "This tool is not allowed for you here.",
  batch_not_allowed: "Not carried out: another call of the same batch is not allowed for you here.",
  policy_error: "Access to this server could not be checked.",
} as const satisfies Partial<Record<PolicyReason, string>>;

/**
 * Compiles every route's policy into plain closures; done once per loaded configuration (`createCurrentPolicies`).
 * A route without a policy takes the top-level one; without either it lets nobody in. Never throws: a rule that cannot
 * be compiled closes its route and is listed in `problems`.
 */
export function compilePolicies(config: Pick<Config, "policy" | "routes">): PolicyTable {
  const problems: PolicyProblem[] = [];
  const table = new Map<string, RoutePolicy>();
  for (const route of config.routes) {
    const source = route.policy ?? config.policy ?? [];
    const broken = brokenRules(source, source === config.policy ? undefined : route.id);
    for (const problem of broken) {
      if (!problems.some((known) => known.routeId === problem.routeId && known.rule === problem.rule)) {
        problems.push(problem);
      }
    }
    const usable = broken.length === 0 ? source : [];
    table.set(
      route.id,
      compileRoutePolicy(
        route.id,
        compileRules(usable, toolLists(route)),
        inspectedBodyBytes({ ...route, policy: usable }),
      ),
    );
  }
  const nobody = compileRules([]);
  return {
    forRoute: (routeId) => table.get(routeId) ?? compileRoutePolicy(routeId, nobody, 0),
    problems,
  };
}

function brokenRules(source: PolicySource, routeId: string | undefined): PolicyProblem[] {
  return source.flatMap((rule) => {
    try {
      compileRules([rule]);
      return [];
    } catch (error) {
      const message = error instanceof PolicyError ? error.message : "cannot be compiled";
      return [{ ...(routeId === undefined ? {} : { routeId }), rule: rule.name, message }];
    }
  });
}

function toolLists(route: Route) {
  return route.mcp.kind === "server" ? route.mcp.tools : undefined;
}

/**
 * The policies of the configuration now in force, compiled once for each. `main.ts` makes one and hands it to `check/`
 * (and to the portal, for `mayReach`); keep the function, not its answer.
 *
 * In `check/`, for each authenticated request:
 *
 * 1. `limiter.takeRequest(...)`: 429 with `Retry-After` where it names seconds;
 * 2. `policies().forRoute(route.id).decide({ ..., body })`, the body being `raw_body` where `needsBody`;
 * 3. `deny`: that status, `reason` as code; `deny_call`: a 200 with `refusalBody`; `allow`: where `toolCalls` is not 0,
 *    `limiter.takeToolCalls(...)`; where `toolFilter` is there, put it into the metadata under `tool_filter`, and remove
 *    `accept-encoding` from the request.
 *
 * In `challenge/`, where the metadata has a `tool_filter`: `toolsAnswerFormat` of the response's headers says whether to
 * buffer the body for `filterToolsJson` (and drop `content-length`), to stream it through a `createToolsStreamFilter`, to
 * let it pass, or to refuse it; both take `readToolFilter(tool_filter)`. What comes back not `ok` is refused, too.
 */
export function createCurrentPolicies(currentRoutes: CurrentRoutes): () => PolicyTable {
  let compiled: { readonly from: Config; readonly table: PolicyTable } | undefined;
  return () => {
    const { config } = currentRoutes();
    if (compiled?.from !== config) compiled = { from: config, table: compilePolicies(config) };
    return compiled.table;
  };
}
