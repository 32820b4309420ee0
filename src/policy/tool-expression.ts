import type { PolicyMatcher } from "../model/route.ts";
import { compileMatcher } from "./matchers.ts";

/**
 * A policy reduced to a condition on the tool's name, all other facts being known. Plain JSON, so that Envoy's metadata can carry it
 * from the request to its response without naming the caller.
 */
export type ToolExpression =
  | boolean
  | { readonly tool: PolicyMatcher }
  | { readonly names: readonly string[] }
  | { readonly and: readonly ToolExpression[] }
  | { readonly or: readonly ToolExpression[] }
  | { readonly not: ToolExpression };

/** Combines expressions with `and` or `or`, and simplifies constants and single parts. */
export function combineToolExpressions(op: "and" | "or", parts: readonly ToolExpression[]): ToolExpression {
  const decides = op === "or";
  if (parts.includes(decides)) return decides;
  const open = parts.filter((part) => typeof part !== "boolean");
  const [only] = open;
  if (only === undefined) return !decides;
  if (open.length === 1) return only;
  return op === "and" ? { and: open } : { or: open };
}

/** The opposite of an expression. */
export function negateToolExpression(part: ToolExpression): ToolExpression {
  if (typeof part === "boolean") return !part;
  return "not" in part ? part.not : { not: part };
}

/**
 * Compiles `tools.allow` or `tools.deny`: case-sensitive tool names, where `*` matches any characters. Matching takes linear time in
 * the name's length for each pattern, whatever the number of stars.
 */
export function compileToolNames(patterns: readonly string[]): (name: string) => boolean {
  const exact = new Set(patterns.filter((pattern) => !pattern.includes("*")));
  const globs = patterns.filter((pattern) => pattern.includes("*")).map((pattern) => pattern.split("*"));
  return (name) => exact.has(name) || globs.some((parts) => matchesGlob(name, parts));
}

function matchesGlob(name: string, parts: readonly string[]): boolean {
  const head = parts[0] ?? "";
  const tail = parts.at(-1) ?? "";
  if (name.length < head.length + tail.length || !name.startsWith(head) || !name.endsWith(tail)) return false;
  const end = name.length - tail.length;
  let from = head.length;
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, from);
    if (found < 0 || found + part.length > end) return false;
    from = found + part.length;
  }
  return true;
}

/** Whether the caller may see a tool of this name. */
export type MayShow = (toolName: string) => boolean;

/**
 * Converts the `toolFilter` of an `allow` decision, received in Envoy's metadata, into a function. An invalid text hides every
 * tool.
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
