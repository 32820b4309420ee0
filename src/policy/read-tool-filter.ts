import type { PolicyMatcher } from "../model/route.ts";
import { compileMatcher } from "./compile-matcher.ts";
import { compileToolNames } from "./compile-tool-names.ts";
import type { ToolExpression } from "./tool-expression.ts";

/** Whether a tool of this name may be shown to the caller. */
export type MayShow = (toolName: string) => boolean;

/**
 * Turns the `toolFilter` of an `allow` decision, as it comes back in Envoy's metadata, into a function.
 * A text that is not one hides every tool.
 */
export function readToolFilter(text: string): MayShow {
  try {
    const expression: ToolExpression = JSON.parse(text);
    return compile(expression);
  } catch {
    return () => false;
  }
}

function compile(expression: ToolExpression): MayShow {
  if (expression === true || expression === false) return () => expression;
  if ("and" in expression) {
    const parts = expression.and.map(compile);
    return (name) => parts.every((part) => part(name));
  }
  if ("or" in expression) {
    const parts = expression.or.map(compile);
    return (name) => parts.some((part) => part(name));
  }
  if ("not" in expression) {
    const part = compile(expression.not);
    return (name) => !part(name);
  }
  return "names" in expression ? compileToolNames(expression.names) : compileTool(expression.tool);
}

function compileTool(matcher: PolicyMatcher): MayShow {
  const compiled = compileMatcher(matcher);
  return (name) => compiled.matches([name]);
}
