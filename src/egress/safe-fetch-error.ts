/** Why an outward call was not made, or not taken. Stable: logs, metrics and `doctor` name it. */
export type SafeFetchErrorCode =
  | "bad_url"
  | "insecure_url"
  | "blocked_address"
  | "dns_failed"
  | "unreachable"
  | "tls_failed"
  | "redirect_not_followed"
  | "too_large"
  | "timed_out";

/** A call that safe fetching refused or could not finish. The message names host and fix, never a path, query or body. */
export class SafeFetchError extends Error {
  readonly code: SafeFetchErrorCode;
  /** Of a redirect: where it leads, absolute. What the other side wrote; absent where it cannot be read. */
  readonly location: string | undefined;
  /** HTTP status, where there was an answer. */
  readonly status: number | undefined;
  /** Who gave that answer: host, with its port where that is not the default one. */
  readonly server: string | undefined;

  constructor(
    code: SafeFetchErrorCode,
    message: string,
    options: { cause?: unknown; location?: string; status?: number; server?: string } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "SafeFetchError";
    this.code = code;
    this.location = options.location;
    this.status = options.status;
    this.server = options.server;
  }
}
