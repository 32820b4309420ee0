import { SafeFetchError } from "../egress/errors.ts";
import type { Route } from "../model/route.ts";
import {
  errorWord,
  type FailureCode,
  isTransient,
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
/** Whether a specification or a common server defines this `error`. */
export const isKnownError = (error: string) => knownErrors.has(error);
/** Maximum length of the other side's error code, characters. */
const maxErrorLength = 128;

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

/** A failed step of the flow; `toFailure` returns the public part. `detail` is for the log: at most 512 characters of the response. */
export class UpstreamOAuthError extends Error {
  readonly code: FailureCode;
  readonly detail: string | undefined;
  readonly retryAfterSeconds: number | undefined;
  /** The other side's OAuth error code, if any, truncated. */
  readonly error: string | undefined;
  /** HTTP status of the response, if any. */
  readonly status: number | undefined;
  /** Host that sent the response, if the response is the failure. */
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
    this.error = more.error?.slice(0, maxErrorLength);
    this.status = more.status;
    this.server = more.server;
  }

  /** A value of low cardinality, for metrics: the other side's error code only if it is a known one. */
  get word(): string {
    return this.error !== undefined && knownErrors.has(this.error) ? this.error : this.code;
  }

  /** Wraps an error of a step; errors of safe fetch become `unreachable`, or the code of a permanent fault. */
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
    const retryable = isTransient(this.code);
    let oauthError: OAuthErrorCode = retryable ? "temporarily_unavailable" : "server_error";
    if (this.code === "consent_denied" || this.code === "disconnected_during_authorization")
      oauthError = "access_denied";
    if (this.code.startsWith("state_") || this.code === "route_unavailable") oauthError = "invalid_request";
    const { server, status, cause } = this;
    // If the response was not accepted, the code is not the other side's.
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

/**
 * The result while a secret of the route is missing. Nothing is sent without it, and no token is renewed: an authorization server would reject
 * the client, and some end its tokens then.
 */
export const withoutCredential = {
  kind: "unavailable",
  retryAfterSeconds: 60,
  reason: "credential_missing",
  fault: "credential_missing",
} as const;

/** @throws UpstreamOAuthError `credential_missing` if an administrator has cleared a secret of the route */
export function requireCredential({ id, missingSecrets }: Route): void {
  if (missingSecrets)
    throw new UpstreamOAuthError(
      withoutCredential.reason,
      `the credential of route ${id} is missing: set ${missingSecrets.join(", ")}`,
    );
}
