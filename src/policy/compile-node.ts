import type { PolicyNode, PolicyRule } from "../model/route.ts";
import { combineToolExpressions } from "./combine-tool-expressions.ts";
import { compileCriterion } from "./compile-criterion.ts";
import { negateToolExpression } from "./negate-tool-expression.ts";
import { PolicyError } from "./policy-error.ts";
import type { PolicyFacts } from "./policy-facts.ts";
import type { ToolExpression } from "./tool-expression.ts";
import type { Verdict } from "./verdict.ts";

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
