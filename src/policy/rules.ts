import type { PolicyNode, PolicyRule, PolicySource } from "../model/route.ts";
import { compileCriterion, type PolicyFacts, type Verdict } from "./criteria.ts";
import { PolicyError } from "./matchers.ts";
import {
  combineToolExpressions,
  compileToolNames,
  negateToolExpression,
  type ToolExpression,
} from "./tool-expression.ts";

/** A condition as plain closures. */
export interface CompiledNode {
  test(facts: PolicyFacts): Verdict;
  /** What is left to ask of a tool's name, the other facts being these. */
  residual(facts: PolicyFacts): ToolExpression;
}

/**
 * Compiles a condition. `not` is true when none of its nodes is, `nor` when at least one is not, as in Pomerium.
 *
 * @param negated whether an odd number of `not` and `nor` stand above.
 * @throws PolicyError for a criterion or matcher that cannot be, or an operator over nothing.
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
  if (node.nodes.length === 0) throw new PolicyError(`${node.op} over no criteria`);
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

/** What the rules say, and the name of the one that decided. */
export interface Ruling {
  readonly verdict: Verdict;
  readonly rule: string;
}

/** All rules that govern one route. */
export interface CompiledRules {
  rule(facts: PolicyFacts): Ruling;
  /** Which tools may be called, the other facts being these. */
  callableTools(facts: PolicyFacts): ToolExpression;
}

/** The `tools` lists of a route. */
export interface ToolLists {
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
}

/**
 * Compiles a policy and a route's tool lists: any matching deny rule refuses, then `tools.deny`, then `tools.allow`;
 * then one allow rule must match.
 *
 * @throws PolicyError when a rule cannot be compiled.
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

/** The first rule that says yes, else the first that may, else no rule at all. */
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
  const rule = (name: string, refuses: (tool: string) => boolean, residual: ToolExpression) => ({
    name,
    when: {
      test: ({ tool }: PolicyFacts): Verdict =>
        tool === undefined ? 1 : tool !== null && refuses(tool) ? 2 : 0,
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
