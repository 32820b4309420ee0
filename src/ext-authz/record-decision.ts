import { type LineCause, limitedBy } from "../telemetry/logger.ts";
import type { CheckDeps, Checked } from "./check-types.ts";
import type { Decision } from "./decision.ts";
import type { RequestFacts } from "./request.ts";

/** What is counted and logged of a decision. */
export interface Recorded
  extends Pick<Checked, "reason" | "route" | "reservedId" | "userId" | "tool" | "rule" | "via"> {
  readonly kind: Decision["kind"];
  /** HTTP status, if the gateway responds. */
  readonly status?: number;
  readonly requestId: string;
}

/** Longer names of tools are cut, in characters. */
const maxToolLength = 256;

/** Whether a decision needs nobody's attention: its line is one at `debug`, unless `log.decisions` is `all`. */
const isQuiet = ({ kind, reason }: Recorded) =>
  kind === "allow" || reason === "preflight" || reason === "well_known";

/** Counts and logs a decision about a request, once. @param known what could be read of the request */
export function recordDecision(
  { metrics, logger, routes }: Pick<CheckDeps, "metrics" | "logger" | "routes">,
  recorded: Recorded,
  known?: Pick<RequestFacts, "host" | "method" | "path">,
): void {
  const { kind, status, reason, userId, tool, rule, via, requestId } = recorded;
  const route = recorded.route?.id ?? recorded.reservedId;
  metrics.checks.labels(kind, reason, route ?? "").inc();
  // The check before the body is not the decision: the one with the body follows.
  const isShown = !isQuiet(recorded) || (routes().config.log.decisions === "all" && reason !== "headers_ok");
  const level = isShown ? "info" : "debug";
  if (!logger.isLevelEnabled(level)) return;
  const { host, method } = known ?? {};
  const path = known?.path.slice(0, 256);
  const facts = {
    ...{
      requestId,
      decision: kind,
      reason,
      status,
      route,
      userId,
      tool: tool?.slice(0, maxToolLength),
      rule,
      via,
    },
    ...(status === 503 && { [limitedBy]: causeOf(reason, route) }),
  };
  const message =
    kind === "allow" ? "request allowed" : kind === "ask" ? "consent requested" : "request denied";
  logger[level]({ ...facts, host, method, path }, message);
}

/** Reasons for a 503 that have nothing to do with the route. */
const general = new Set(["store_unavailable", "deadline_exceeded", "too_many_callers", "internal"]);

/** One route's failure must not hide another's. */
function causeOf(reason: string, route: string | undefined): LineCause {
  return general.has(reason) || route === undefined ? { reason } : { reason, route };
}
