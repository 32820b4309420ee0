/** Why an outward call was not made, or not taken. Stable: logs, metrics and `doctor` name it. */
export type SafeFetchErrorCode =
  | "bad_url"
  | "insecure_url"
  | "blocked_address"
  | "dns_failed"
  | "unreachable"
  | "tls_failed"
  | "redirect_refused"
  | "too_large"
  | "timed_out";

/** A call that safe fetching refused or could not finish. The message names host and fix, never a path, query or body. */
export class SafeFetchError extends Error {
  readonly code: SafeFetchErrorCode;

  constructor(code: SafeFetchErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "SafeFetchError";
    this.code = code;
  }
}
