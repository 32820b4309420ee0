import type { PolicyNode, PolicyRule, PolicySource } from "../model/route.ts";
import { compileCriterion, type PolicyFacts, type Verdict } from "./criteria.ts";
import { PolicyError } from "./matchers.ts";
import {
  combineToolExpressions,
  compileToolNames,
  negateToolExpression,
  type ToolExpression,
} from "./tool-list-filter.ts";

/** A condition compiled into closures. */
export interface CompiledNode {
  test(facts: PolicyFacts): Verdict;
  /** The remaining condition on a tool's name, given the other facts. */
  residual(facts: PolicyFacts): ToolExpression;
}

/**
 * Compiles a condition. `not` is true if none of its nodes is true, `nor` if at least one is not, as in Pomerium.
 *
 * @param negated whether the node is below an odd number of `not` and `nor`.
 * @throws PolicyError for an invalid criterion or matcher, or an operator without criteria.
 */
export function compileNode(node: PolicyNode, action: PolicyRule["action"], negated = false): CompiledNode {
  if (node.op === "criterion") {
    const test = compileCriterion(node, action, negated);
    const { criterion, matcher } = node;
    return {
      test,
      residual: (facts) => (criterion === "mcp_tool" ? { tool: matcher } : test(facts) === 2),
    };
  }
  if (node.nodes.length === 0) throw new PolicyError(`${node.op} has no criteria`);
  switch (node.op) {
    case "and":
    case "or":
      return combine(
        node.op,
        node.nodes.map((part) => compileNode(part, action, negated)),
      );
    case "not":
    case "nor":
      return combine(
        node.op === "not" ? "and" : "or",
        node.nodes.map((part) => invert(compileNode(part, action, !negated))),
      );
    default:
      throw new PolicyError("unknown operator");
  }
}

function combine(op: "and" | "or", parts: readonly CompiledNode[]): CompiledNode {
  const decides = op === "and" ? 0 : 2;
  return {
    test(facts) {
      let result: Verdict = op === "and" ? 2 : 0;
      for (const part of parts) {
        const verdict = part.test(facts);
        if (verdict === decides) return verdict;
        if (verdict === 1) result = 1;
      }
      return result;
    },
    residual: (facts) =>
      combineToolExpressions(
        op,
        parts.map((part) => part.residual(facts)),
      ),
  };
}

function invert(part: CompiledNode): CompiledNode {
  return {
    test: (facts) => opposite[part.test(facts)],
    residual: (facts) => negateToolExpression(part.residual(facts)),
  };
}

const opposite = [2, 1, 0] as const;

/** The verdict of the rules, and the name of the deciding one. */
export interface Ruling {
  readonly verdict: Verdict;
  readonly rule: string;
}

/** All rules of one route. */
export interface CompiledRules {
  rule(facts: PolicyFacts): Ruling;
  /** The tools that may be called, given the other facts. */
  callableTools(facts: PolicyFacts): ToolExpression;
}

/** The `tools` lists of a route. */
export interface ToolLists {
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
}

/**
 * Compiles a policy and a route's tool lists: first, any matching deny rule denies; then `tools.deny`, then `tools.allow`; then one
 * allow rule must match.
 *
 * @throws PolicyError if a rule cannot be compiled.
 */
export function compileRules(source: PolicySource, tools: ToolLists = {}): CompiledRules {
  const compile = (action: "allow" | "deny") =>
    source
      .filter((rule) => rule.action === action)
      .map((rule) => ({ name: rule.name, when: compileNode(rule.when, action) }));
  const denies = [...compile("deny"), ...listRules(tools)];
  const allows = compile("allow");

  return {
    rule(facts) {
      const denied = strongest(denies, facts);
      if (denied.verdict === 2) return { verdict: 0, rule: denied.rule };
      const allowed = strongest(allows, facts);
      return denied.verdict === 1 && allowed.verdict === 2 ? { verdict: 1, rule: denied.rule } : allowed;
    },
    callableTools(facts) {
      const residuals = (rules: typeof allows) => rules.map((rule) => rule.when.residual(facts));
      return combineToolExpressions("and", [
        negateToolExpression(combineToolExpressions("or", residuals(denies))),
        combineToolExpressions("or", residuals(allows)),
      ]);
    },
  };
}

/** The first rule that matches, else the first that may match, else no rule. */
function strongest(rules: readonly { name: string; when: CompiledNode }[], facts: PolicyFacts): Ruling {
  let open: Ruling | undefined;
  for (const rule of rules) {
    const verdict = rule.when.test(facts);
    if (verdict === 2) return { verdict, rule: rule.name };
    if (verdict === 1) open ??= { verdict, rule: rule.name };
  }
  return open ?? { verdict: 0, rule: "no rule" };
}

/** `tools.deny` and `tools.allow` as two deny rules. */
function listRules({ allow, deny }: ToolLists): { name: string; when: CompiledNode }[] {
  const rule = (name: string, denies: (tool: string) => boolean, residual: ToolExpression) => ({
    name,
    when: {
      test: ({ tool }: PolicyFacts): Verdict =>
        tool === undefined ? 1 : tool !== null && denies(tool) ? 2 : 0,
      residual: () => residual,
    },
  });
  const rules = [];
  if (deny) rules.push(rule("tools.deny", compileToolNames(deny), { names: deny }));
  if (allow) {
    const allowed = compileToolNames(allow);
    rules.push(rule("tools.allow", (tool) => !allowed(tool), { not: { names: allow } }));
  }
  return rules;
}
