import { SafeFetchError } from "../egress/errors.ts";
import {
  errorWord,
  type FailureCode,
  isPassing,
  type OAuthErrorCode,
  type UpstreamFailure,
} from "./failures.ts";

/** Error codes of RFC 6749, 8693, 8707 and 9449, OpenID Connect, and servers in use (GitHub, Entra). */
const knownErrors = new Set([
  "access_denied",
  "bad_refresh_token",
  "consent_required",
  "interaction_required",
  "invalid_client",
  "invalid_dpop_proof",
  "invalid_grant",
  "invalid_request",
  "invalid_scope",
  "invalid_target",
  "invalid_token",
  "login_required",
  "unauthorized_client",
  "unsupported_grant_type",
  "use_dpop_nonce",
]);
/** Whether specifications or servers in use define this `error`. */
export const isKnownError = (error: string) => knownErrors.has(error);
/** Of the other side's, characters. */
const longestError = 128;

function codeOf({ code }: SafeFetchError): FailureCode {
  switch (code) {
    case "timed_out":
    case "unreachable":
    case "dns_failed":
    case "tls_failed":
      return "unreachable";
    case "redirect_not_followed":
      return "redirect_not_followed";
    case "too_large":
      return "response_too_large";
    case "bad_url":
    case "insecure_url":
    case "blocked_address":
      return "endpoint_not_allowed";
  }
}

/** A step of the flow that failed; `toFailure` is its public face. `detail` is for the log: at most 512 bytes of what the other side wrote. */
export class UpstreamOAuthError extends Error {
  readonly code: FailureCode;
  readonly detail: string | undefined;
  readonly retryAfterSeconds: number | undefined;
  /** The other side's OAuth error code, where it gave one; the beginning of it. */
  readonly error: string | undefined;
  /** HTTP status of the answer, where there was one. */
  readonly status: number | undefined;
  /** Host of who answered, where the answer is what failed. */
  readonly server: string | undefined;

  constructor(
    code: FailureCode,
    message: string,
    more: {
      cause?: unknown;
      detail?: string;
      retryAfterSeconds?: number;
      error?: string;
      status?: number;
      server?: string;
    } = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = "UpstreamOAuthError";
    this.code = code;
    this.detail = more.detail?.slice(0, 512);
    this.retryAfterSeconds = more.retryAfterSeconds;
    this.error = more.error?.slice(0, longestError);
    this.status = more.status;
    this.server = more.server;
  }

  /** One of few words, for metrics: the other side's own only where it is a known one. */
  get word(): string {
    return this.error !== undefined && knownErrors.has(this.error) ? this.error : this.code;
  }

  /** Wraps what a step threw; errors of safe fetching become "unreachable" or, when they will not heal, what has to change. */
  static from(error: unknown, what: string): UpstreamOAuthError {
    if (error instanceof UpstreamOAuthError) return error;
    if (error instanceof SafeFetchError) {
      return new UpstreamOAuthError(codeOf(error), `${what}: ${error.message}`, {
        cause: error,
        error: error.code,
        status: error.status,
        server: error.server,
      });
    }
    return new UpstreamOAuthError("response_invalid", `${what}: the response is not valid OAuth`, {
      cause: error,
      detail: error instanceof Error ? error.message : "",
    });
  }

  toFailure(): UpstreamFailure {
    const retryable = isPassing(this.code);
    let oauthError: OAuthErrorCode = retryable ? "temporarily_unavailable" : "server_error";
    if (this.code === "consent_denied" || this.code === "disconnected_during_authorization")
      oauthError = "access_denied";
    if (this.code.startsWith("state_") || this.code === "route_unavailable") oauthError = "invalid_request";
    const { server, status, cause } = this;
    // Of an answer that was not taken, the code is ours.
    const theirs = cause instanceof SafeFetchError ? undefined : errorWord(this.error);
    return {
      ok: false,
      code: this.code,
      message: this.message,
      retryable,
      oauthError,
      ...(server !== undefined && { answer: { server, status, error: theirs } }),
      retryAfterSeconds: this.retryAfterSeconds,
    };
  }
}
