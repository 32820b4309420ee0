import type { ServerEntry } from "./entries.ts";

/** `tools` of a route. */
export interface ToolRules {
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
}

/** The tool lists of an entry: `disabledTools` (Windsurf, Roo), `excludeTools` and `includeTools` (Gemini CLI), `tools` (Copilot, FastMCP). */
export function toolRules(entry: ServerEntry): {
  readonly rules: ToolRules;
  readonly notes: readonly string[];
} {
  const listed = Array.isArray(entry.tools) ? entry.tools.filter((name) => typeof name === "string") : [];
  const allow = [...(entry.includeTools ?? []), ...listed].filter((name) => name !== "*");
  const deny = [...(entry.disabledTools ?? []), ...(entry.excludeTools ?? [])];
  const transforms = entry.tools !== undefined && !Array.isArray(entry.tools);
  return {
    rules: { ...(allow.length > 0 && { allow }), ...(deny.length > 0 && { deny }) },
    notes: transforms ? ["its tool transformations are not taken over: tools keep their names"] : [],
  };
}
