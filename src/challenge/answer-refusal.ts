import type { Route } from "../config/route.ts";
import { notUsable } from "../upstream-oauth/failure.ts";
import type { RefusalOutcome } from "../upstream-token/upstream-tokens.ts";
import type { ChallengeDeps } from "./challenge-deps.ts";
import { challenge, giveUp, type Replacement, unavailable } from "./replacement.ts";
import type { UpstreamResponse } from "./upstream-response.ts";

/** F2.4: a machine is never challenged, there is nobody at it to authorize. */
const ownersTurn =
  "a service account cannot consent: the owner of the connection it uses must connect this server again";

/** The decision's outcome, or what kept it from being made. */
type Outcome = RefusalOutcome | { readonly kind: "failed" | "deadline_exceeded"; readonly reason: string };

/**
 * What the client gets in place of an upstream's 401 or 403 (F4.6); undefined: that answer as it is. Never rejects, and
 * answers within `check.deadline`: the upstream's own challenge would send the client to the wrong authorization server, so
 * what cannot be decided is 503.
 * @param owner whose connection went along
 */
export async function answerRefusal(
  deps: ChallengeDeps,
  response: UpstreamResponse,
  status: 401 | 403,
  route: Route,
  owner: string,
): Promise<{ readonly replacement: Replacement; readonly outcome: Outcome["kind"] } | undefined> {
  const { wwwAuthenticate, dpopNonce, metadata } = response;
  const refusal = {
    status,
    routeId: route.id,
    upstreamHash: metadata.upstream,
    askedPath: metadata.endpoint,
    userId: owner,
    version: metadata.version,
    wwwAuthenticate: wwwAuthenticate.join(", "),
    dpopNonce,
  };
  const outcome = await beforeDeadline(
    deps.upstreamTokens.upstreamRefused(refusal),
    deps.routes().config.check.deadlineMs,
  );
  deps.metrics.challenges.inc({ status: String(status), outcome: outcome.kind });
  const line = {
    status,
    outcome: outcome.kind,
    reason: outcome.reason,
    route: route.id,
    userId: metadata.user,
    owner: metadata.owner,
    connection: metadata.connection,
    version: metadata.version,
    requestId: metadata.requestId,
  };
  deps.logger[outcome.kind === "failed" ? "error" : "info"](line, "an upstream refused a call");
  const replacement = replacementFor(outcome, { ...metadata, route });
  return replacement && { replacement, outcome: outcome.kind };
}

function beforeDeadline(decision: Promise<RefusalOutcome>, ms: number): Promise<Outcome> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve({ kind: "deadline_exceeded", reason: `${ms} ms` }), ms);
    decision
      .then(resolve, (error: unknown) =>
        resolve({ kind: "failed", reason: error instanceof Error ? error.message : String(error) }),
      )
      .finally(() => clearTimeout(timer));
  });
}

function replacementFor(
  outcome: Outcome,
  asked: Omit<UpstreamResponse["metadata"], "route"> & { readonly route: Route },
): Replacement | undefined {
  const { requestId } = asked;
  switch (outcome.kind) {
    case "untouched":
      return undefined;
    case "consent":
      if (asked.machine) return giveUp(requestId, 403, "no_credential", ownersTurn);
      return challenge(asked, "this server needs your consent; authorize again", outcome.scopes);
    case "retry":
      // A 401 would end clients that cannot get a new TE: they are told to send the call again as it was.
      return asked.refreshable
        ? challenge(asked, "the server asked for a fresh token; try again", [])
        : unavailable(requestId, 0, "the server asked for a fresh token, which is ready now; try again");
    case "unavailable":
      return unavailable(requestId, outcome.retryAfterSeconds, notUsable(outcome.reason));
    case "give_up":
      return giveUp(requestId, outcome.status, outcome.reason, outcome.message);
    case "failed":
    case "deadline_exceeded":
      return unavailable(
        requestId,
        1,
        "the authorization for this server cannot be looked up now; try again",
      );
  }
}
