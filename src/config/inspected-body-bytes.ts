import type { PolicyNode, Route } from "./route.ts";

/** How many bytes of a request's body policy must see on this route; 0: none (F6.2). Envoy buffers exactly these. */
export function inspectedBodyBytes(route: Route): number {
  if (route.mcp.kind !== "server") return 0;
  const needed =
    route.mcp.tools !== undefined ||
    route.rateLimit?.toolCallsPerMinute !== undefined ||
    (route.policy ?? []).some((rule) => namesTools(rule.when));
  return needed ? route.mcp.maxRequestBytes : 0;
}

function namesTools(node: PolicyNode): boolean {
  return node.op === "criterion" ? node.criterion === "mcp_tool" : node.nodes.some(namesTools);
}
