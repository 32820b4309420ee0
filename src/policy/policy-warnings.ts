import type { Config } from "../config/config.ts";
import type { PolicyNode, PolicyRule, PolicySource } from "../config/route.ts";
import { asksForTool } from "./asks-for-tool.ts";
import { compilePolicies } from "./compile-policies.ts";

/** Something an operator probably did not mean. */
export interface PolicyWarning {
  /** Absent: the top-level policy. */
  readonly routeId?: string;
  readonly message: string;
}

/** What `check-config` says of policies that are legal and do less, or more, than they seem to. */
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
      const message = asksForTool(rule.when) ? toolSurprise(rule) : undefined;
      if (message) warnings.push({ ...where, message: `${rule.name}: ${message}` });
    }
  }
  return warnings;
}

/** `mcp_tool` is false on everything but tool calls; some rules forget that clients must first say `initialize`. */
function toolSurprise({ action, when }: PolicyRule): string | undefined {
  const onOtherMethods = outlook(when);
  if (action === "allow" && onOtherMethods === 0) {
    return "it lets through tool calls only, not even initialize or tools/list; put mcp_tool under deny";
  }
  if (action === "deny" && onOtherMethods === 2) {
    return "it refuses initialize and tools/list, too; use mcp_tool with not_in instead of not";
  }
  return undefined;
}

/** What a condition comes to where no tool is called and nothing else is known: 0 never, 1 depends, 2 always. */
function outlook(node: PolicyNode): number {
  if (node.op === "criterion") {
    if (node.criterion === "mcp_tool") return 0;
    return node.criterion === "accept" ? 2 : 1;
  }
  const parts = node.nodes.map(outlook);
  const negated = node.op === "not" || node.op === "nor" ? parts.map((part) => 2 - part) : parts;
  return node.op === "and" || node.op === "not" ? Math.min(...negated) : Math.max(...negated);
}
