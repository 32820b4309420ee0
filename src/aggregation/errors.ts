import { ProtocolErrorCode } from "@modelcontextprotocol/server";
import { SafeFetchError } from "../egress/errors.ts";
import { type Refusal, ResponseTooLong } from "./member-transport.ts";
import type { Naming } from "./names.ts";

/** The member answered 401: the person has not connected it, has disconnected it, or must grant it more. */
export class ConsentNeeded extends Error {
  readonly naming: Naming;

  constructor(naming: Naming) {
    super(`${naming.member.route.name} is not connected`);
    this.naming = naming;
  }
}

/** The person has removed the member from the application, or lost access to it, while it was called. Its message is for the client. */
export class MemberRemoved extends Error {
  /** JSON-RPC. */
  readonly code = ProtocolErrorCode.InternalError;

  constructor({ member }: Naming) {
    super(`${member.route.name} may no longer be used here; the call was ended, and may have had an effect`);
  }
}

const tooMany = {
  aggregated_requests_per_user: "Too many of your requests are being handled; try again later",
  aggregated_requests_per_session: "Too many requests of this session are being handled; try again later",
  aggregated_sessions_per_user: "Too many of your sessions were begun; try again later",
} as const;

/** A person uses more of this replica than one may at once. Answered with 429. */
export class TooMany extends Error {
  /** Value of the metric's label. */
  readonly limit: keyof typeof tooMany;
  /** Seconds after which the client may try again. */
  readonly retryAfter: number;

  constructor(limit: TooMany["limit"], retryAfter: number) {
    super(tooMany[limit]);
    this.limit = limit;
    this.retryAfter = retryAfter;
  }
}

/** A member could not be called. Its message is for the client: it names the member and says nothing about our network. */
export class MemberFailed extends Error {
  /** JSON-RPC. */
  readonly code = ProtocolErrorCode.InternalError;
  readonly naming: Naming;
  /** HTTP status, if the member refused; for the log and metrics. */
  readonly status?: number;
  readonly reason: string;

  constructor(naming: Naming, cause: unknown, refusal: Refusal) {
    const { name } = naming.member.route;
    super(`${name} ${explanation(cause, refusal)}`);
    this.naming = naming;
    this.status = refusal.status;
    this.reason = cause instanceof Error ? cause.message.slice(0, 200) : String(cause);
  }
}

function explanation(cause: unknown, { status }: Refusal): string {
  if (isLong(cause)) return "sent a response that is too long";
  if (isTimeout(cause)) return "did not answer in time";
  if (status === 403) return "denied the request";
  if (status === 429) return "receives too many requests; try again later";
  if (status !== undefined && status >= 500) return `is not available (HTTP ${status})`;
  if (status !== undefined) return `rejected the request (HTTP ${status})`;
  return "cannot be reached, or sent a response that is not MCP";
}

/** Event streams are bounded here, everything else where it is received. */
function isLong(cause: unknown): boolean {
  const errors = cause instanceof Error ? [cause, cause.cause] : [];
  return errors.some(
    (error) =>
      error instanceof ResponseTooLong || (error instanceof SafeFetchError && error.code === "too_large"),
  );
}

/** The SDK's error codes are strings; those of JSON-RPC are numbers. */
function isTimeout(cause: unknown): boolean {
  return (
    cause instanceof Error &&
    (cause.name === "TimeoutError" || ("code" in cause && cause.code === "REQUEST_TIMEOUT"))
  );
}
