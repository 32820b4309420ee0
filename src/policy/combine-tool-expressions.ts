import type { ToolExpression } from "./tool-expression.ts";

/** `and` or `or` of expressions, simplified: constants vanish or decide, one remaining part stands alone. */
export function combineToolExpressions(op: "and" | "or", parts: readonly ToolExpression[]): ToolExpression {
  const decides = op === "or";
  if (parts.includes(decides)) return decides;
  const open = parts.filter((part) => typeof part !== "boolean");
  const [only] = open;
  if (only === undefined) return !decides;
  if (open.length === 1) return only;
  return op === "and" ? { and: open } : { or: open };
}
