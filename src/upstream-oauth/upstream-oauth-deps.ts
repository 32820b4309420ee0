import type { CurrentRoutes } from "../config/route-table.ts";
import type { ResolveHost } from "../egress/safe-fetch.ts";
import type { SignInSession, Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { ClientKeys } from "./client-key.ts";

/** What main.ts gives this room. */
export interface UpstreamOAuthDeps {
  readonly routes: CurrentRoutes;
  readonly store: Store;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly keys: ClientKeys;
  /** Gets new tokens from the company's provider in place of these, which have expired (F1.4). Absent: none can be had. */
  readonly renewSignIn?: (
    old: Pick<SignInSession, "userId" | "tokensAt">,
  ) => Promise<"ok" | "refused" | "unavailable" | "sign_in_again">;
  /** Default: the system's resolver. */
  readonly resolveHost?: ResolveHost;
}
