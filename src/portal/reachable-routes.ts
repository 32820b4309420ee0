import type { Route } from "../model/route.ts";
import type { PolicyCaller } from "../model/subject.ts";
import type { PortalDeps } from "./portal-deps.ts";

/** The MCP servers that policy lets somebody use, in the order of the routes file. */
export function reachableRoutes(
  { routes, mayReach }: Pick<PortalDeps, "routes" | "mayReach">,
  caller: PolicyCaller,
): readonly Route[] {
  return routes().config.routes.filter(
    (route) => route.mcp.kind === "server" && route.enabled && mayReach(caller, route),
  );
}
