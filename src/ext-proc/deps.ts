import type { PeerAuthentication } from "../config/listeners.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { MetadataProofs } from "../external-tokens/metadata-proofs.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { UpstreamTokens } from "../upstream-tokens/upstream-tokens.ts";

/** What main.ts hands to the challenge service. */
export interface ChallengeDeps {
  readonly routes: CurrentRoutes;
  /** Decides what becomes of an upstream's 401 or 403, and repairs what it can (F4.6). */
  readonly upstreamTokens: Pick<UpstreamTokens, "upstreamRefused">;
  /** Whether a call comes from Envoy. */
  readonly peers: PeerAuthentication;
  /** Whether what an answer is judged by comes from a check of ours. */
  readonly metadataProofs: Pick<MetadataProofs, "verify" | "spend" | "provePlace" | "cookiePrefixes">;
  /** Streams that may be legacy ones and are open at a time; the next one is answered 503. */
  readonly mostWatchedStreams: number;
  readonly logger: Logger;
  readonly metrics: Metrics;
}
