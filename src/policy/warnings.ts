import type { Config } from "../config/config.ts";
import type { PolicyMatcher, PolicyNode, PolicyRule, PolicySource, Route } from "../model/route.ts";
import { compilePolicies } from "./route-policy.ts";

/** Whether a condition depends on which tool is called. */
export function asksForTool(node: PolicyNode): boolean {
  return node.op === "criterion" ? node.criterion === "mcp_tool" : node.nodes.some(asksForTool);
}

/** A policy that probably does not do what the operator intended. */
export interface PolicyWarning {
  /** Absent: the top-level policy. */
  readonly routeId?: string;
  readonly message: string;
}

/** Warnings of `check-config` about policies that are valid but do less, or more, than they seem to. */
export function policyWarnings(config: Pick<Config, "policy" | "routes">): PolicyWarning[] {
  const warnings: PolicyWarning[] = compilePolicies(config).problems.map(({ routeId, rule, message }) => ({
    ...(routeId === undefined ? {} : { routeId }),
    message: `${rule}: ${message}; nobody may use this route`,
  }));
  const sources: { routeId?: string; policy: PolicySource }[] = config.routes.flatMap(({ id, policy }) =>
    policy && policy !== config.policy ? [{ routeId: id, policy }] : [],
  );
  if (config.policy) sources.unshift({ policy: config.policy });
  for (const { policy, ...where } of sources) {
    if (!policy.some((rule) => rule.action === "allow")) {
      warnings.push({ ...where, message: "there is no allow rule: nobody may use this route" });
    }
    for (const rule of policy) {
      for (const route of governedBy(policy, config)) {
        for (const message of pathWarnings(rule.when, rule.action === "deny", route)) {
          warnings.push({ routeId: route.id, message: `${rule.name}: ${message}` });
        }
      }
      const message = asksForTool(rule.when) ? toolWarning(rule) : undefined;
      if (message) warnings.push({ ...where, message: `${rule.name}: ${message}` });
    }
  }
  return warnings;
}

/** Warnings of `check-config` about what routes lose if no response reaches the sidecar (`envoy.response_path: false`). */
export function responsePathWarnings({ envoy, routes }: Pick<Config, "envoy" | "routes">): PolicyWarning[] {
  if (envoy.responsePath) return [];
  return routes.flatMap(({ id: routeId, mcp, policy = [] }) => {
    if (mcp.kind === "client")
      return {
        routeId,
        message:
          "without a response path (envoy.response_path: false), the application can set the gateway's own cookies on its host: give it a host that it shares with no MCP server and with no other application",
      };
    if (mcp.tools === undefined && !policy.some(({ when }) => asksForTool(when))) return [];
    return {
      routeId,
      message:
        "without a response path (envoy.response_path: false), tools that policy denies stay listed; calls of them are denied",
    };
  });
}

function governedBy(policy: PolicySource, config: Pick<Config, "policy" | "routes">): readonly Route[] {
  return config.routes.filter((route) => (route.policy ?? config.policy) === policy);
}

/** If `to` has a path, all paths at the upstream begin with it; a rule may have been written for the client's path. */
function pathWarnings(node: PolicyNode, wide: boolean, route: Route): readonly string[] {
  const { upstreamPath: to, prefix } = route;
  if (to === undefined || to === prefix) return [];
  if (node.op !== "criterion") {
    const inside = node.op === "not" || node.op === "nor" ? !wide : wide;
    return node.nodes.flatMap((part) => pathWarnings(part, inside, route));
  }
  return node.criterion === "http_path" ? matcherWarnings(node.matcher, wide, to.replace(/\/$/, "")) : [];
}

function matcherWarnings(matcher: PolicyMatcher, wide: boolean, to: string): readonly string[] {
  const about = "http_path is matched against the upstream's path, and all paths of this route begin with";
  switch (matcher.kind) {
    case "all":
      return matcher.matchers.flatMap((part) => matcherWarnings(part, wide, to));
    case "not_in":
      return matcherWarnings({ kind: "in", values: matcher.values }, !wide, to);
    case "starts_with": {
      const value = String(matcher.value);
      if (to.startsWith(value)) return [`${about} ${to}: starts_with: ${value} matches every request`];
      return wide || value.startsWith(to) ? [] : [`${about} ${to}: starts_with: ${value} matches nothing`];
    }
    case "is":
    case "in": {
      const values = "values" in matcher ? matcher.values : [matcher.value];
      const lost = wide
        ? []
        : values.map(String).filter((value) => value !== to && !value.startsWith(`${to}/`));
      return lost.map(
        (value) => `${about} ${to}: ${value} matches nothing; write ${to}${value === "/" ? "" : value}`,
      );
    }
    default:
      return [];
  }
}

/** `mcp_tool` is false on everything except tool calls; some rules forget that clients must first call `initialize`. */
function toolWarning({ action, when }: PolicyRule): string | undefined {
  const onOtherMethods = withoutToolCall(when);
  if (action === "allow" && onOtherMethods === 0) {
    return "it allows only tool calls, not initialize or tools/list; put mcp_tool under deny";
  }
  if (action === "deny" && onOtherMethods === 2) {
    return "it also denies initialize and tools/list; use mcp_tool with not_in instead of not";
  }
  return undefined;
}

/** The result of a condition without a tool call: 0 never, 1 depends, 2 always. */
function withoutToolCall(node: PolicyNode): number {
  if (node.op === "criterion") {
    if (node.criterion === "mcp_tool") return 0;
    return node.criterion === "accept" ? 2 : 1;
  }
  const parts = node.nodes.map(withoutToolCall);
  const negated = node.op === "not" || node.op === "nor" ? parts.map((part) => 2 - part) : parts;
  return node.op === "and" || node.op === "not" ? Math.min(...negated) : Math.max(...negated);
}
