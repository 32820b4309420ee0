import type { Config } from "../config/config.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { compilePolicies } from "./compile-policies.ts";
import type { PolicyTable } from "./policy-table.ts";

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
