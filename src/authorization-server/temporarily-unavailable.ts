import { errors } from "oidc-provider";

/** `temporarily_unavailable` as RFC 6749 section 4.1.2.1 names it, with HTTP status 503 at endpoints that clients call directly. */
export function temporarilyUnavailable(message: string, cause?: unknown): errors.OIDCProviderError {
  const error = new errors.TemporarilyUnavailable(message, { cause });
  error.status = 503;
  error.statusCode = 503;
  return error;
}
