/** Why a consent trip, a discovery or a grant failed. Stable; logs, metrics and `doctor` name it. */
export type FailureCode =
  /** Route gone, disabled, or of a kind that needs no consent. */
  | "route_unavailable"
  /** The callback: no `state`, not this browser's, not this user's or host's, unknown, used or expired. */
  | "state_missing"
  | "state_of_other_browser"
  | "state_of_other_user"
  /** The callback of another authorization server, or of another route (RFC 9700 section 4.4.2.2). */
  | "state_of_other_server"
  | "state_unknown"
  /** The person refused at the upstream's authorization server. */
  | "consent_refused"
  /** That server answered the authorization request with another error. */
  | "authorization_refused"
  /** RFC 9207. */
  | "issuer_mismatch"
  /** The upstream names another authorization server than the one that configured credentials belong to. */
  | "issuer_changed"
  /** The upstream names an authorization server that another upstream has, or that signs people in. */
  | "issuer_of_other_route"
  /** The person has not been shown yet where they would be sent, or what for. */
  | "notice_needed"
  | "response_invalid"
  | "discovery_failed"
  | "resource_mismatch"
  | "metadata_invalid"
  | "metadata_domain_not_allowed"
  | "endpoint_not_allowed"
  | "pkce_not_supported"
  | "registration_unavailable"
  | "registration_refused"
  | "client_refused"
  | "token_refused"
  | "token_invalid"
  | "rate_limited"
  | "server_error"
  | "unreachable"
  /** The person's sign-in token is needed for the grant and is not there. */
  | "sign_in_token_missing"
  | "key_unusable"
  /** The database is away: what a server has granted is stored as soon as it is back. */
  | "storage_unavailable";

/** RFC 6749 section 4.1.2.1: what the MCP client, or the application, is told. */
export type OAuthErrorCode = "access_denied" | "server_error" | "temporarily_unavailable" | "invalid_request";

/** What a person or an operator is told. Never quotes what another server wrote. */
export interface Failure {
  readonly ok: false;
  readonly code: FailureCode;
  readonly message: string;
  /** Trying again later may help without anybody's doing. */
  readonly retryable: boolean;
  readonly oauthError: OAuthErrorCode;
  readonly retryAfterSeconds?: number;
}
