export function isTimeout(reason: unknown): boolean {
  return reason instanceof Error && reason.name === "TimeoutError";
}

/** DNS error codes for a lookup without an answer. */
export const unanswered = new Set(["EAI_AGAIN", "ETIMEOUT", "ETIMEDOUT"]);

/** The error of a proxy, without its credentials; undefined if the proxy is not the cause. */
export function describeProxy(error: unknown, url: URL, proxy: URL): SafeFetchError | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const status = /^Proxy response \((\d+)\)/.exec(at.message)?.[1];
    if (status !== undefined) {
      const credentials = "it requires a user and a password, in the URL of the proxy";
      const why = status === "407" ? credentials : "its rules decide what is allowed";
      return new SafeFetchError(
        "unreachable",
        `${url.host} could not be reached: the proxy ${proxy.host} answered ${status} (${why})`,
        { cause: error },
      );
    }
    const code = "code" in at && typeof at.code === "string" ? at.code : "";
    const badProxyTls = at.name === "SecureProxyConnectionError" || code === "UND_ERR_PRX_TLS";
    const unreachable =
      /^(ENOTFOUND|EAI_|ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|UND_ERR_CONNECT_TIMEOUT)/;
    if (badProxyTls || unreachable.test(code))
      return new SafeFetchError(
        "unreachable",
        `${url.host} could not be reached: the proxy ${proxy.host} is unreachable (${code || at.name})`,
        { cause: error },
      );
  }
  return undefined;
}

/** Finds the cause in the errors that undici wraps; default: "unreachable". */
export function describe(error: unknown, url: URL, timeout: AbortSignal, timeoutMs: number): unknown {
  if (timeout.aborted) {
    return new SafeFetchError("timed_out", `${url.host} did not answer within ${timeoutMs} ms`, {
      cause: error,
    });
  }
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    if (at instanceof SafeFetchError) return at;
    const code = "code" in at && typeof at.code === "string" ? at.code : "";
    if (code === "ENOTFOUND" || code.startsWith("EAI_")) {
      return new SafeFetchError("dns_failed", `the name ${url.hostname} does not resolve`, { cause: error });
    }
    if (/CERT|SSL|TLS|SELF_SIGNED|UNABLE_TO/.test(code)) {
      return new SafeFetchError("tls_failed", `TLS with ${url.host} failed: ${code}`, { cause: error });
    }
    if (at.name === "AbortError") return at;
  }
  return new SafeFetchError("unreachable", `${url.host} could not be reached`, { cause: error });
}

/** Why an outbound call was blocked or failed. Stable: logs, metrics and `doctor` use it. */
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

/** A call that was blocked or failed. The message names the host and the fix, never a path, query or body. */
export class SafeFetchError extends Error {
  readonly code: SafeFetchErrorCode;
  /** Target of a redirect, absolute, as the server sent it; absent if it cannot be parsed. */
  readonly location: string | undefined;
  /** HTTP status, if there was a response. */
  readonly status: number | undefined;
  /** Server of that response: host, with its port if it is not the default port. */
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
