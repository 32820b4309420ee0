import type { Config } from "../config/config.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { inspectedBodyBytes, type PolicySource, type Route } from "../model/route.ts";
import { PolicyError } from "./matchers.ts";
import type { PolicyProblem, PolicyTable, RoutePolicy } from "./policy.ts";
import { compileRoutePolicy } from "./route-policy.ts";
import { compileRules } from "./rules.ts";

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

/**
 * The policies of the configuration now in force, compiled once for each. `main.ts` makes one and hands it to `check/`
 * (and to the portal, for `mayReach`); keep the function, not its answer.
 *
 * In `check/`, for each authenticated request:
 *
 * 1. `limiter.takeRequest(...)`: 429 with `Retry-After` where it names seconds;
 * 2. `policies().forRoute(route.id).decide({ ..., body })`, the body being `raw_body` where `needsBody`;
 * 3. `deny`: that status, `reason` as code; `refuse_call`: a 200 with `refusalBody`; `allow`: where `toolCalls` is not 0,
 *    `limiter.takeToolCalls(...)`; where `toolFilter` is there, put it into the metadata under `tool_filter`, and remove
 *    `accept-encoding` from the request.
 *
 * In `challenge/`, where the metadata has a `tool_filter`: `toolsAnswerFormat` of the response's headers says whether to
 * buffer the body for `filterToolsJson` (and drop `content-length`), to stream it through a `createToolsStreamFilter`, to
 * let it pass, or to refuse it; both take `readToolFilter(tool_filter)`. What comes back not `ok` is refused, too.
 */
export function createCurrentPolicies(currentRoutes: CurrentRoutes): () => PolicyTable {
  let compiled: { readonly from: Config; readonly table: PolicyTable } | undefined;
  return () => {
    const { config } = currentRoutes();
    if (compiled?.from !== config) compiled = { from: config, table: compilePolicies(config) };
    return compiled.table;
  };
}
