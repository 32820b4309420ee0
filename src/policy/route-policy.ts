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
 * For a caller without access, only bodies up to this size are accepted and read for the ids to answer, bytes: otherwise any token
 * holder could fill memory.
 */
const answeredBytes = 16 * 1024;

/**
 * One route's policy over its compiled rules.
 *
 * @param maxBodyBytes the largest body to read; 0: bodies are not inspected.
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
        // Fails closed on any unexpected error (a hostile claim, a bug).
        return deny("no rule", "policy_error");
      }
    },
    denyBeforeBody(input) {
      try {
        const who = rules.rule(factsOf(input));
        if (who.verdict === 0)
          return isAnswered(input, maxBodyBytes) ? undefined : deny(who.rule, "not_allowed");
        // Bodies are no longer inspected, but Envoy has not loaded that configuration yet.
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

/** Decides without a body: by caller, time, source address, HTTP method and path. */
function decideRequest(rules: CompiledRules, input: PolicyInput): PolicyDecision {
  const { verdict, rule } = rules.rule({ ...factsOf(input), tool: null });
  return verdict === 2 ? { kind: "allow", rule, toolCalls: 0 } : deny(rule, "not_allowed");
}

function decideCalls(rules: CompiledRules, input: PolicyInput, maxBodyBytes: number): PolicyDecision {
  const facts = factsOf(input);
  // A caller without access does not learn how the body was read.
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
  const firstDenied = rulings.findIndex((ruling) => ruling.verdict !== 2);
  if (firstDenied < 0) return allow(rulings[0] ?? who, rules, input, body.messages);
  return denyCalls(body.messages, rulings, firstDenied, body.batch);
}

/** Whether to accept a body of a caller without access, so that `waitingIn` can find the requests to answer. */
function isAnswered({ method, headers }: PolicyInput, maxBodyBytes: number): boolean {
  const length = headers["content-length"] ?? "";
  // A number with more digits would exceed the limit anyway.
  const announced = /^\d{1,9}$/.test(length) ? Number(length) : 0;
  return method === "POST" && announced > 0 && announced <= Math.min(answeredBytes, maxBodyBytes);
}

function waitingIn(input: PolicyInput, maxBodyBytes: number): { readonly waiting?: DeniedRequests } {
  const body = readJsonRpc(input, Math.min(answeredBytes, maxBodyBytes));
  if (!body.ok) return {};
  const denied = body.messages.flatMap((message) =>
    message.kind === "request"
      ? [{ id: message.id, reason: "not_allowed", message: words.not_allowed } as const]
      : [],
  );
  return denied.length === 0 ? {} : { waiting: { denied, batch: body.batch } };
}

function allow(
  { rule }: Ruling,
  rules: CompiledRules,
  input: PolicyInput,
  messages: readonly JsonRpcMessage[],
): PolicyDecision {
  const tools = toolsOf(messages);
  const called = { toolCalls: tools.length, ...named(tools) };
  const mayList =
    input.method === "GET" ||
    messages.some((message) => "method" in message && message.method === "tools/list");
  if (!mayList) return { kind: "allow", rule, ...called };
  // Listed tools are called by POST, whatever method requests the list.
  const callable = rules.callableTools({ ...factsOf({ ...input, method: "POST" }) });
  return callable === true
    ? { kind: "allow", rule, ...called }
    : { kind: "allow", rule, ...called, toolFilter: JSON.stringify(callable), ...listIdOf(messages) };
}

function listIdOf(messages: readonly JsonRpcMessage[]): { readonly listId?: JsonRpcId } {
  const [only] = messages;
  return messages.length === 1 && only?.kind === "request" ? { listId: only.id } : {};
}

/** One denied call denies the whole body: nothing of it reaches the server, and each of its requests gets an error. */
function denyCalls(
  messages: readonly JsonRpcMessage[],
  rulings: readonly Ruling[],
  first: number,
  batch: boolean,
): Denial {
  const rule = rulings[first]?.rule ?? "no rule";
  const reason = reasonFor(messages[first]);
  const denied = messages.flatMap((message, index) => {
    if (message.kind !== "request") return [];
    const forbidden = rulings[index]?.verdict !== 2;
    const answer: DeniedRequest = forbidden
      ? { id: message.id, reason: reasonFor(message), message: messageFor(message) }
      : { id: message.id, reason: "batch_not_allowed", message: words.batch_not_allowed };
    return [answer];
  });
  // Without an id, JSON-RPC has no response.
  return denied.length === 0
    ? deny(rule, reason)
    : { kind: "deny_call", rule, reason, denied, batch, ...named(toolsOf(messages)) };
}

const toolsOf = (messages: readonly JsonRpcMessage[]) => messages.flatMap((message) => toolOf(message) ?? []);

function named(tools: readonly string[]): { readonly tool?: string } {
  return tools.length === 0 ? {} : { tool: tools.join(", ") };
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
 * Compiles every route's policy into plain closures, once per loaded configuration (`createCurrentPolicies`). A route without a
 * policy uses the top-level one; without either it denies all requests. Never throws: a rule that cannot be compiled makes its
 * route deny all requests and is listed in `problems`.
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
 * The policies of the current configuration, compiled once per configuration. Keep the function, not its result.
 *
 * ext_authz, for each authenticated request:
 *
 * 1. `limiter.takeRequest(...)`: 429 with `Retry-After` if the limit is reached;
 * 2. `policies().forRoute(route.id).decide({ ..., body })`, with `raw_body` as the body if `needsBody`;
 * 3. `deny`: that status, `reason` as code; `deny_call`: a 200 with `jsonRpcDenialBody`; `allow`: if `toolCalls` is not 0,
 *    `limiter.takeToolCalls(...)`; if there is a `toolFilter`, add it to the metadata as `tool_filter` and remove
 *    `accept-encoding` from the request.
 *
 * ext_proc, if the metadata has a `tool_filter`: `toolsAnswerFormat` decides from the response's headers whether to buffer the body
 * for `filterToolsJson` (and drop `content-length`), to stream it through a `createToolsStreamFilter`, to pass it, or to replace it
 * with an error; both filters use `readToolFilter(tool_filter)`. A result that is not `ok` becomes an error, too.
 */
export function createCurrentPolicies(currentRoutes: CurrentRoutes): () => PolicyTable {
  let compiled: { readonly from: Config; readonly table: PolicyTable } | undefined;
  return () => {
    const { config } = currentRoutes();
    if (compiled?.from !== config) compiled = { from: config, table: compilePolicies(config) };
    return compiled.table;
  };
}
