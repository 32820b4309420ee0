import type { Config } from "../config/config.ts";
import { type PeerAuthentication, peerAuthentication } from "../config/listeners.ts";
import { type Logger, rateLimitedReport } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";

/** Authenticates the callers of a listener. Rejected calls are counted and logged at intervals. */
export function peersAt(
  listener: "grpc" | "http" | "xds",
  address: string,
  secrets: Pick<Config["listen"], "envoySecrets">,
  { logger, metrics }: { readonly logger: Logger; readonly metrics: Pick<Metrics, "unauthenticatedCalls"> },
): PeerAuthentication {
  metrics.unauthenticatedCalls.inc({ listener }, 0);
  const report = rateLimitedReport((times) =>
    logger.warn({ listener, address, times }, "calls rejected: the peer has not proven that it is Envoy"),
  );
  return peerAuthentication(address, secrets, () => {
    metrics.unauthenticatedCalls.inc({ listener });
    report();
  });
}
