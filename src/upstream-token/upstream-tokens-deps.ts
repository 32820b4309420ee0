import type { CurrentRoutes } from "../config/route-table.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { UpstreamOAuth } from "../upstream-oauth/upstream-oauth.ts";

/** What main.ts gives this room. */
export interface UpstreamTokensDeps {
  readonly routes: CurrentRoutes;
  readonly store: Pick<
    Store,
    "upstreamTokens" | "signInSessions" | "delegations" | "notifications" | "audit"
  >;
  readonly upstreamOAuth: Pick<
    UpstreamOAuth,
    "refresh" | "grant" | "revoke" | "needed" | "fault" | "noteNeeded" | "forget"
  >;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** How often the background refresh looks for work, ms (30000); 0: never. */
  readonly refreshAheadEveryMs?: number;
  /** How long a connection outlives its route, seconds (a day). */
  readonly orphanGraceSeconds?: number;
}
