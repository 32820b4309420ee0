import type { Route } from "../model/route.ts";
import { denialBody } from "../policy/policy.ts";
import { notUsable } from "../upstream-oauth/failures.ts";
import type { RejectionOutcome } from "../upstream-tokens/upstream-tokens.ts";
import type { ExternalProcessorDeps } from "./protocol.ts";
import type { UpstreamResponse } from "./upstream-response.ts";

/** What the client gets in place of the upstream's answer. */
export interface Replacement {
  readonly status: 401 | 403 | 502 | 503;
  /** Lower-case names. They overwrite. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
}

/** For whom it is: what the client asked for. */
export interface Asked {
  readonly route: Route;
  /** Path as the client asked for it, without query. */
  readonly path: string;
  readonly requestId: string;
}

/** The same as on every answer of ours: a browser's client must be able to read the challenge. */
const common = [
  ["content-type", "application/json"],
  ["cache-control", "no-store"],
  ["access-control-allow-origin", "*"],
  ["access-control-expose-headers", "WWW-Authenticate, MCP-Session-Id"],
  ["vary", "Origin"],
] as const;

/**
 * The 401 that sends a client to our authorization server instead of the upstream's (RFC 6750 section 3,
 * RFC 9728 section 5.1). Always `invalid_token`, also for a step-up: SDK clients answer it with their refresh
 * token, which is refused while the upstream's consent is missing, and then ask the person.
 *
 * @param description after `Unauthorized: `, for a person; no quotes.
 */
export function challenge(asked: Asked, description: string, scopes: readonly string[]): Replacement {
  const path = asked.path === "/" ? "" : asked.path;
  const resourceMetadata = `${asked.route.origin}/.well-known/oauth-protected-resource${path}`;
  const whole = `Unauthorized: ${description}`;
  // RFC 6749 section 3.3: whatever else an upstream may have called a scope would break the header.
  const clean = scopes.filter((scope) => /^[!#-[\]-~]+$/.test(scope));
  const parameters = [
    `resource_metadata="${resourceMetadata}"`,
    `error="invalid_token"`,
    `error_description="${whole}"`,
    ...(clean.length > 0 ? [`scope="${clean.join(" ")}"`] : []),
  ];
  return {
    status: 401,
    headers: [...common, ["www-authenticate", `Bearer ${parameters.join(", ")}`]],
    body: JSON.stringify({
      error: "invalid_token",
      error_description: whole,
      resource_metadata: resourceMetadata,
      request_id: asked.requestId,
    }),
  };
}

/** 503: nothing the client or its user could mend, or nothing but trying again. */
export function unavailable(requestId: string, retryAfterSeconds: number, description: string): Replacement {
  return {
    status: 503,
    headers: [...common, ["retry-after", String(retryAfterSeconds)]],
    body: denialBody("temporarily_unavailable", description, requestId),
  };
}

/** Neither trying again nor consenting would help. The upstream's own challenge does not go along. */
export function giveUp(requestId: string, status: 403 | 502, code: string, description: string): Replacement {
  return {
    status,
    headers: [...common],
    body: denialBody(code, description, requestId),
  };
}

/** A machine is never challenged, there is nobody at it to authorize. */
const ownersTurn =
  "a service account cannot consent: the owner of the connection it uses must connect this server again";

/** The decision's outcome, or what kept it from being made. */
type Outcome = RejectionOutcome | { readonly kind: "failed" | "deadline_exceeded"; readonly reason: string };

/**
 * What the client gets in place of an upstream's 401 or 403; undefined: that answer as it is. Never rejects, and
 * answers within `check.deadline`: the upstream's own challenge would send the client to the wrong authorization server, so
 * what cannot be decided is 503.
 * @param owner whose connection went along
 */
export async function answerRejection(
  deps: ExternalProcessorDeps,
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
    deps.upstreamTokens.handleRejection(refusal),
    deps.routes().config.check.deadlineMs,
  );
  deps.metrics.upstreamRejections.inc({ status: String(status), outcome: outcome.kind });
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

function beforeDeadline(decision: Promise<RejectionOutcome>, ms: number): Promise<Outcome> {
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
      if (asked.serviceAccount) return giveUp(requestId, 403, "no_credential", ownersTurn);
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
