import type { ToolExpression } from "./tool-expression.ts";

/** The opposite of an expression. */
export function negateToolExpression(part: ToolExpression): ToolExpression {
  if (typeof part === "boolean") return !part;
  return "not" in part ? part.not : { not: part };
}
