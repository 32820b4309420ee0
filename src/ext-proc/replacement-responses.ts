import { mcpCors, retryHeader } from "../config/header-names.ts";
import type { Route } from "../model/route.ts";
import { denialBody } from "../policy/policy.ts";
import { bearerChallenge } from "../server/http/bearer-challenge.ts";
import { notUsable } from "../upstream-oauth/failures.ts";
import type { RejectionOutcome } from "../upstream-tokens/upstream-tokens.ts";
import type { WorkBudget } from "./memory-and-cpu-limits.ts";
import type { ExternalProcessorDeps, ProcessingResponse, UpstreamResponse } from "./protocol.ts";
import type { BodyFilter } from "./tool-list.ts";

/** The response that replaces the upstream's. */
export interface Replacement {
  readonly status: 401 | 403 | 502 | 503;
  /** Names in lower case; they overwrite. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
}

/** The client's request. */
export interface Asked {
  readonly route: Route;
  /** Path as the client requested it, without query. */
  readonly path: string;
  readonly requestId: string;
}

/** The same as on every response of the gateway: MCP clients in browsers must be able to read the challenge. */
const common = [
  ["content-type", "application/json"],
  ["cache-control", "no-store"],
  ...mcpCors,
  ["vary", "Origin"],
] as const;

/**
 * The 401 that sends a client to our authorization server instead of the upstream's.
 * Always `invalid_token`, also for a step-up: SDK clients then use their refresh token, which is rejected while the upstream's
 * consent is missing, and then ask the person.
 *
 * @param description as in `bearerChallenge`
 */
export function challenge(asked: Asked, description: string, scopes: readonly string[]): Replacement {
  const { wwwAuthenticate, body } = bearerChallenge({
    resource: asked,
    error: "invalid_token",
    description,
    scopes,
    requestId: asked.requestId,
  });
  return {
    status: 401,
    headers: [...common, ["www-authenticate", wwwAuthenticate]],
    body: JSON.stringify(body),
  };
}

/** 503: the client and its user can at most try again. */
export function unavailable(requestId: string, retryAfterSeconds: number, description: string): Replacement {
  return {
    status: 503,
    headers: [...common, ["retry-after", String(retryAfterSeconds)]],
    body: denialBody("temporarily_unavailable", description, requestId),
  };
}

/** The same, for a request that can be repeated without asking anybody: `signed` says so to the aggregated endpoint. */
function atOnce(response: Replacement, signed: string): Replacement {
  return { ...response, headers: [...response.headers, [retryHeader, signed]] };
}

/** Neither a retry nor consent would help. The upstream's own challenge is dropped. */
export function giveUp(requestId: string, status: 403 | 502, code: string, description: string): Replacement {
  return {
    status,
    headers: [...common],
    body: denialBody(code, description, requestId),
  };
}

/** A service account is never challenged: there is no person to authorize. */
const ownerMustReconnect =
  "a service account cannot consent: the owner of the connection it uses must reconnect this server";

/** The outcome of the decision, or why there is none. */
type Outcome = RejectionOutcome | { readonly kind: "failed" | "deadline_exceeded"; readonly reason: string };

/**
 * The replacement for an upstream's 401 or 403; undefined: the response passes unchanged. Never rejects, and settles within
 * `check.deadline`: the upstream's own challenge would send the client to the wrong authorization server, so an undecided case
 * becomes 503.
 * @param owner user id of the connection's owner
 */
export async function answerRejection(
  deps: ExternalProcessorDeps,
  response: UpstreamResponse,
  status: 401 | 403,
  route: Route,
  owner: string,
): Promise<{ readonly replacement: Replacement; readonly outcome: Outcome["kind"] } | undefined> {
  const { wwwAuthenticate, dpopNonce, metadata } = response;
  const rejection = {
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
    deps.upstreamTokens.handleRejection(rejection),
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
  deps.logger[outcome.kind === "failed" ? "error" : "info"](line, "upstream rejected a call");
  const sign = () => deps.metadataProofs.signHeader("retry", { route: route.id, user: metadata.user });
  const replacement = replacementFor(outcome, { ...metadata, route }, sign);
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
  signRetry: () => string,
): Replacement | undefined {
  const { requestId } = asked;
  switch (outcome.kind) {
    case "untouched":
      return undefined;
    case "consent":
      if (asked.serviceAccount) return giveUp(requestId, 403, "no_credential", ownerMustReconnect);
      return challenge(asked, "this server needs your consent; authorize again", outcome.scopes);
    case "retry":
      // A 401 would end clients that cannot refresh their external token: they get a 503 and can repeat the call.
      return asked.refreshable
        ? challenge(asked, "the server asked for a fresh token; try again", [])
        : atOnce(
            unavailable(requestId, 0, "the server asked for a fresh token, which is ready now; try again"),
            signRetry(),
          );
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

export interface Filtering {
  readonly filter: BodyFilter;
  readonly requestId: string;
  readonly route: Route;
  /** The user of the stream, if it may be legacy HTTP+SSE. */
  readonly watchedFor?: string;
  readonly holdsHead: boolean;
  readonly budgets: readonly WorkBudget[];
}

/** It might list tools that policy hides from the caller. */
export function unreadable(requestId: string): ProcessingResponse {
  const message =
    "the server's list of tools cannot be parsed, so tools that policy denies cannot be removed";
  return immediate(giveUp(requestId, 502, "tools_list_unreadable", message), "tools_list_unreadable");
}

/** Its events may send the client elsewhere; the check removed `accept-encoding`. */
export function encodedStream(requestId: string): ProcessingResponse {
  const message = "the server's event stream is compressed, although the request did not accept an encoding";
  return immediate(giveUp(requestId, 502, "upstream_stream_unreadable", message), "stream_unreadable");
}

export function tooManyStreams(requestId: string): ProcessingResponse {
  const message = "too many event streams are open at this gateway; try again";
  return immediate(unavailable(requestId, 10, message), "too_many_streams");
}

/** The target is only logged: the client could send its token there, or cannot reach it. */
export function redirectElsewhere(requestId: string): ProcessingResponse {
  const message =
    "the server redirects to another host, or to a path of another route: the route's `to` must be the URL that responds without that redirect";
  return immediate(giveUp(requestId, 502, "upstream_redirect_elsewhere", message), "redirect_elsewhere");
}

export function endpointElsewhere({ requestId }: Filtering): ProcessingResponse {
  const message =
    "the server sends its clients' messages to another host, or to a path of another route: the `endpoint` event of its stream must name a path below the route's `to`";
  return immediate(giveUp(requestId, 502, "upstream_endpoint_elsewhere", message), "endpoint_elsewhere");
}

export function immediate(replacement: Replacement, outcome: string): ProcessingResponse {
  return {
    immediateResponse: {
      status: { code: replacement.status },
      headers: {
        setHeaders: replacement.headers.map(([key, value]) => ({
          header: { key, rawValue: Buffer.from(value, "latin1") },
          appendAction: "OVERWRITE_IF_EXISTS_OR_ADD",
        })),
      },
      body: Buffer.from(replacement.body),
      details: `envoy_mcp_auth_${outcome}`,
    },
  };
}
