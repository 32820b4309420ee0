import type { Config } from "../config/config.ts";
import { inspectedBodyBytes, type PolicySource, type Route } from "../model/route.ts";
import { compileRoutePolicy } from "./compile-route-policy.ts";
import { compileRules } from "./compile-rules.ts";
import { PolicyError } from "./policy-error.ts";
import type { PolicyProblem, PolicyTable, RoutePolicy } from "./policy-table.ts";

/**
 * Compiles every route's policy into plain closures; done once per loaded configuration (`createCurrentPolicies`).
 * A route without a policy takes the top-level one; without either it lets nobody in. Never throws: a rule that cannot
 * be compiled closes its route and is listed in `problems`.
 */
export function compilePolicies(config: Pick<Config, "policy" | "routes">): PolicyTable {
  const problems: PolicyProblem[] = [];
  const table = new Map<string, RoutePolicy>();
  for (const route of config.routes) {
    const source = route.policy ?? config.policy ?? [];
    const broken = brokenRules(source, source === config.policy ? undefined : route.id);
    for (const problem of broken) {
      if (!problems.some((known) => known.routeId === problem.routeId && known.rule === problem.rule)) {
        problems.push(problem);
      }
    }
    const usable = broken.length === 0 ? source : [];
    table.set(
      route.id,
      compileRoutePolicy(
        route.id,
        compileRules(usable, toolLists(route)),
        inspectedBodyBytes({ ...route, policy: usable }),
      ),
    );
  }
  const nobody = compileRules([]);
  return {
    forRoute: (routeId) => table.get(routeId) ?? compileRoutePolicy(routeId, nobody, 0),
    problems,
  };
}

function brokenRules(source: PolicySource, routeId: string | undefined): PolicyProblem[] {
  return source.flatMap((rule) => {
    try {
      compileRules([rule]);
      return [];
    } catch (error) {
      const message = error instanceof PolicyError ? error.message : "cannot be compiled";
      return [{ ...(routeId === undefined ? {} : { routeId }), rule: rule.name, message }];
    }
  });
}

function toolLists(route: Route) {
  return route.mcp.kind === "server" ? route.mcp.tools : undefined;
}
