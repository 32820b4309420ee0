import type { PolicySource } from "../model/route.ts";
import { combineToolExpressions } from "./combine-tool-expressions.ts";
import { type CompiledNode, compileNode } from "./compile-node.ts";
import { compileToolNames } from "./compile-tool-names.ts";
import { negateToolExpression } from "./negate-tool-expression.ts";
import type { PolicyFacts } from "./policy-facts.ts";
import type { ToolExpression } from "./tool-expression.ts";
import type { Verdict } from "./verdict.ts";

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
