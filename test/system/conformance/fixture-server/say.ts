import type { CallToolResult } from "@modelcontextprotocol/server";

/** A tool result with one text. */
export function say(text: string): CallToolResult {
  return { content: [{ type: "text", text }] };
}
