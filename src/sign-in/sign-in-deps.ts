import type { CurrentRoutes } from "../config/route-table.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";

/** What `createSignIn` needs from the rest of the house. */
export interface SignInDeps {
  readonly routes: CurrentRoutes;
  readonly store: Store;
  /** Reaches the company's OpenID providers, which an operator has named. */
  readonly fetch: typeof globalThis.fetch;
  readonly logger: Logger;
  readonly metrics?: Metrics;
  /** Ends what else belongs to a person whom the provider refuses, once their sessions and grants are gone (F8.10). */
  readonly personRefused?: (userId: string) => Promise<unknown>;
}
