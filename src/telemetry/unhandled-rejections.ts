import type { Logger } from "./logger.ts";
import type { Metrics } from "./metrics.ts";

/**
 * Reports rejected promises that nothing handles, instead of ending the process: one request's failure must not end the checks of all
 * users. The request itself has failed, and denied. Exceptions that nothing catches still end the process: its state is then unknown.
 *
 * @returns a function that stops it
 */
export function reportUnhandledRejections({
  logger,
  metrics,
}: {
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, "errors">;
}): () => void {
  const report = (reason: unknown) => {
    metrics.errors.inc({ component: "process", code: "unhandled_rejection" });
    logger.error(
      { err: reason instanceof Error ? reason : new Error(String(reason)) },
      "a failure was not handled; please report it",
    );
  };
  process.on("unhandledRejection", report);
  return () => void process.off("unhandledRejection", report);
}
