import type { CurrentRoutes } from "../config/route-table.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { UpstreamTokens } from "../upstream-token/upstream-tokens.ts";

/** What main.ts hands to the challenge service. */
export interface ChallengeDeps {
  readonly routes: CurrentRoutes;
  /** Decides what becomes of an upstream's 401 or 403, and repairs what it can (F4.6). */
  readonly upstreamTokens: Pick<UpstreamTokens, "upstreamRefused">;
  readonly logger: Logger;
  readonly metrics: Metrics;
}
