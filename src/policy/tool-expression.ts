import type { PolicyMatcher } from "../model/route.ts";

/**
 * What is left of a policy when everything but the tool's name is known: a question of the name alone. Plain JSON, so
 * that it can travel in Envoy's metadata from the request to its response without naming the caller.
 */
export type ToolExpression =
  | boolean
  | { readonly tool: PolicyMatcher }
  | { readonly names: readonly string[] }
  | { readonly and: readonly ToolExpression[] }
  | { readonly or: readonly ToolExpression[] }
  | { readonly not: ToolExpression };
