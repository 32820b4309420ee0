export function isTimeout(reason: unknown): boolean {
  return reason instanceof Error && reason.name === "TimeoutError";
}

/** Look-ups that ended without an answer. */
export const unanswered = new Set(["EAI_AGAIN", "ETIMEOUT", "ETIMEDOUT"]);

/** What went wrong between us and the proxy; undefined: something else. Never with the proxy's credentials. */
export function describeProxy(error: unknown, url: URL, proxy: URL): SafeFetchError | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const status = /^Proxy response \((\d+)\)/.exec(at.message)?.[1];
    if (status !== undefined) {
      const wants = "it wants a user and a password, in the URL of the proxy";
      const why = status === "407" ? wants : "its rules decide what is let through";
      return new SafeFetchError(
        "unreachable",
        `${url.host} could not be reached: the proxy ${proxy.host} answered ${status} (${why})`,
        { cause: error },
      );
    }
    const code = "code" in at && typeof at.code === "string" ? at.code : "";
    const refused = at.name === "SecureProxyConnectionError" || code === "UND_ERR_PRX_TLS";
    const away = /^(ENOTFOUND|EAI_|ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|UND_ERR_CONNECT_TIMEOUT)/;
    if (refused || away.test(code))
      return new SafeFetchError(
        "unreachable",
        `${url.host} could not be reached: the proxy ${proxy.host} could not be (${code || at.name})`,
        { cause: error },
      );
  }
  return undefined;
}

/** Finds the reason inside undici's wrapping; what is left is "unreachable". */
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
