import type { PolicyNode } from "../model/route.ts";

/** Whether a condition depends on which tool is called. */
export function asksForTool(node: PolicyNode): boolean {
  return node.op === "criterion" ? node.criterion === "mcp_tool" : node.nodes.some(asksForTool);
}
