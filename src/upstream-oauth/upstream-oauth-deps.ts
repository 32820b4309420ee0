import type { CurrentRoutes } from "../config/route-table.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { ClientKeys } from "./client-key.ts";
import type { ResolveHost } from "./safe-fetch.ts";

/** What main.ts gives this room. */
export interface UpstreamOAuthDeps {
  readonly routes: CurrentRoutes;
  readonly store: Store;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly keys: ClientKeys;
  /** Default: the system's resolver. */
  readonly resolveHost?: ResolveHost;
}
