import type { Route } from "../../src/model/route.ts";
import type { RoutePolicy } from "../../src/policy/policy.ts";
import { compilePolicies } from "../../src/policy/route-policy.ts";
import { loadPolicies } from "./load-policies.ts";

/** The route of a file with these lines of YAML in its only route (`policy:`, `tools:`, `mcp:`). */
export function routeWith(lines: string): { route: Route; policy: RoutePolicy } {
  const indented = lines
    .split("\n")
    .map((line) => `    ${line}`)
    .join("\n");
  const mcp = /^mcp:/m.test(lines) ? "" : "    mcp: {server: {}}\n";
  const config = loadPolicies(
    `issuer: https://auth.example.com\nroutes:\n  - from: https://mcp.example.com\n    to: http://upstream:8080/mcp\n${mcp}${indented}\n`,
  );
  const route = config.routes[0];
  if (!route) throw new Error("no route");
  return { route, policy: compilePolicies(config).forRoute(route.id) };
}
