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
  | "consent_denied"
  /** That server answered the authorization request with another error. */
  | "authorization_rejected"
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
  /** What answers at the route's upstream is not an MCP server, or could not be told to be one. */
  | "not_an_mcp_server"
  /** The stream of a legacy HTTP+SSE server sends clients to another host, or to a path of another route. */
  | "upstream_endpoint_elsewhere"
  /** The upstream refuses the key or the headers of the routes file. */
  | "credential_rejected"
  /** The upstream asks for a credential, and the route has none (`upstream_auth: none`). */
  | "credential_missing"
  | "resource_mismatch"
  | "metadata_invalid"
  | "metadata_domain_not_allowed"
  | "endpoint_not_allowed"
  /** A redirect where none is followed. */
  | "redirect_not_followed"
  /** An answer above `upstream_oauth.max_response_bytes`. */
  | "response_too_large"
  | "pkce_not_supported"
  | "registration_unavailable"
  | "registration_rejected"
  | "client_rejected"
  /** Nothing takes token requests at the URL that metadata, or the routes file, names. */
  | "token_endpoint_unusable"
  | "token_request_rejected"
  | "token_invalid"
  | "rate_limited"
  | "server_error"
  | "unreachable"
  /** The person's sign-in token is needed for the grant and is not there. */
  | "sign_in_token_missing"
  | "key_unusable"
  /** The person has disconnected, left or connected again since the authorization flow began. */
  | "disconnected_during_authorization"
  /** The database is away: what a server has granted is stored as soon as it is back. */
  | "storage_unavailable";

/**
 * Each in words for a person and an MCP client, about "the server": nothing of them was written by anybody else, so that a link that
 * carries a code can be shown.
 */
export const failureWords: Readonly<Record<FailureCode, string>> = {
  route_unavailable: "it has been switched off, removed or moved",
  state_missing: "the callback does not match a pending authorization",
  state_of_other_browser: "it was started in another browser, or this browser's cookie is missing",
  state_of_other_user: "a different user is signed in than when it started",
  state_of_other_server:
    "the response came from a different authorization server than the one that was asked",
  state_unknown: "the authorization has already been used, or took too long",
  consent_denied: "access was not granted there",
  authorization_rejected: "its authorization page answered with an error",
  issuer_mismatch: "the issuer of its authorization server is not the expected one (RFC 8414, RFC 9207)",
  issuer_changed: "it names a different authorization server than the one its client is registered at",
  issuer_of_other_route: "it names an authorization server that belongs to another server here",
  notice_needed: "the user must confirm first",
  response_invalid: "its authorization server answered with something that is not OAuth",
  discovery_failed: "it asks for a token but publishes no usable OAuth metadata; it may not use OAuth at all",
  not_an_mcp_server: "what answers at its address is not an MCP server",
  upstream_endpoint_elsewhere: "it sends its clients to an address other than its own",
  credential_rejected: "it rejects the credential that is configured for it",
  credential_missing: "it asks for a credential, and none is configured for it",
  resource_mismatch: "its metadata is for a different address than the one configured here",
  metadata_invalid: "the metadata of its authorization server lacks required members",
  metadata_domain_not_allowed: "the domain of its authorization server is not allowed here",
  endpoint_not_allowed: "its metadata points to an address that this gateway may not contact",
  redirect_not_followed: "it redirects, and the redirect is not followed",
  response_too_large: "its metadata is too large",
  pkce_not_supported: "its authorization server does not list PKCE with S256",
  registration_unavailable: "its authorization server registers no clients, and none is configured here",
  registration_rejected: "its authorization server rejected the registration of this gateway",
  client_rejected: "its authorization server does not accept this gateway's client",
  token_endpoint_unusable: "the token endpoint of its authorization server does not exist",
  token_request_rejected: "its authorization server rejected the token request",
  token_invalid: "its authorization server returned no usable token",
  rate_limited: "its authorization server limits the rate of requests; try again later",
  server_error: "it, or its authorization server, failed; try again later",
  unreachable: "it, or its authorization server, cannot be reached; try again later",
  sign_in_token_missing: "it needs a new sign-in",
  key_unusable: "the key that is configured for it cannot be read",
  disconnected_during_authorization: "it was disconnected after the authorization started; connect again",
  storage_unavailable: "the token cannot be stored now; try again in a moment",
};

const passing = new Set<FailureCode>(["rate_limited", "server_error", "unreachable", "storage_unavailable"]);

/** Whether trying again later may help without anybody's doing. */
export function isPassing(code: FailureCode): boolean {
  return passing.has(code);
}

/** A failure code from a place that anybody can write to. */
export function readFailureCode(value: unknown): FailureCode | undefined {
  return typeof value === "string" && Object.hasOwn(failureWords, value) ? (value as FailureCode) : undefined;
}

/** What the failed step was told by the other side, as far as it can be repeated. */
export interface UpstreamAnswer {
  /** Host, with its port where that is not the default one. */
  readonly server: string;
  /** HTTP status; absent where the answer came by the browser. */
  readonly status?: number;
  /** Its OAuth error code, where that is one word. */
  readonly error?: string;
}

/** Query parameters that carry an answer through the browser. */
const answerParameters = {
  server: "connect_error_server",
  status: "connect_error_status",
  error: "connect_error_upstream",
} as const;

/** An error code that another server chose, if it is a single word: no sentence of theirs is shown as ours. */
export function errorWord(error: string | undefined): string | undefined {
  return error !== undefined && /^[A-Za-z][\w.-]{0,63}$/.test(error) ? error : undefined;
}

export function writeUpstreamAnswer(query: URLSearchParams, { server, status, error }: UpstreamAnswer): void {
  query.set(answerParameters.server, server);
  if (status !== undefined) query.set(answerParameters.status, String(status));
  if (error !== undefined) query.set(answerParameters.error, error);
}

/** From a place that anybody can write to: a host, a number and a word, or nothing. */
export function readUpstreamAnswer(query: Readonly<Record<string, unknown>>): UpstreamAnswer | undefined {
  const { [answerParameters.server]: server, [answerParameters.status]: status } = query;
  const { [answerParameters.error]: error } = query;
  if (typeof server !== "string" || server.length > 255) return undefined;
  if (URL.parse(`https://${server}`)?.host !== server) return undefined;
  return {
    server,
    status: typeof status === "string" && /^[1-5]\d\d$/.test(status) ? Number(status) : undefined,
    error: typeof error === "string" ? errorWord(error) : undefined,
  };
}

/** What the operator of this gateway can do where trying again does not help; for an engineer who has the client's log only. */
const remedies: Partial<Readonly<Record<FailureCode, string>>> = {
  registration_unavailable: byHand(),
  registration_rejected: byHand(),
  client_rejected:
    "the operator of this gateway checks mcp.server.upstream_oauth2.client_id and client_secret",
  authorization_rejected:
    "the operator of this gateway checks the scopes, the client and its redirect URI at that server",
  token_request_rejected:
    "the operator of this gateway checks the client and its redirect URI at that server",
  discovery_failed: doctor(),
  not_an_mcp_server: doctor(),
  upstream_endpoint_elsewhere: doctor(),
  resource_mismatch: doctor(),
  metadata_invalid: doctor(),
  issuer_mismatch: doctor(),
  pkce_not_supported: doctor(),
};

function byHand(): string {
  return "the operator of this gateway registers a client there by hand and sets mcp.server.upstream_oauth2.client_id and client_secret of the route";
}

function doctor(): string {
  return "the operator of this gateway runs envoy-mcp-auth doctor for the route";
}

/**
 * A failure as an MCP client's engineer reads it: what happened, who answered what, and what to do. Characters that an
 * `error_description` may have (RFC 6749 section 4.1.2.1), and words of ours but for the host and the error code.
 *
 * @param ownHosts of the upstream, which may be internal: they are not named
 */
function describeFailure(
  code: FailureCode,
  answer?: UpstreamAnswer,
  ownHosts: readonly string[] = [],
): string {
  const answered = [answer?.status, answer?.error].filter((one) => one !== undefined).join(" ");
  const who = answer && (ownHosts.includes(answer.server) ? "the server" : answer.server);
  const facts = answered === "" ? code : `${code}; ${who} answered ${answered}`;
  const remedy = remedies[code];
  return `${failureWords[code]} (${facts})${remedy === undefined ? "" : `; ${remedy}`}`;
}

/** The end of an authorization, for the MCP client and its person: as `describeFailure`. */
export function notConnected(...failure: Parameters<typeof describeFailure>): string {
  return `the server behind this route could not be connected: ${describeFailure(...failure)}`;
}

/** Whether all that may be said is that somebody refused, the person or policy. @param code of OAuth, as it came back */
export function isRefusal(code: unknown, reason: FailureCode | undefined): boolean {
  return code === "access_denied" && reason !== "disconnected_during_authorization";
}

/** Why a call cannot be sent on now, for its caller. @param reason why there is no upstream token: a failure code, or another word */
export function notUsable(reason: string): string {
  const code = readFailureCode(reason);
  return code === undefined
    ? "the server's authorization server cannot be reached now; try again later"
    : `this server cannot be used now: ${failureWords[code]} (${code})`;
}

/** RFC 6749 section 4.1.2.1: what the MCP client, or the application, is told. */
export type OAuthErrorCode = "access_denied" | "server_error" | "temporarily_unavailable" | "invalid_request";

/** What a person or an operator is told. Never quotes what another server wrote. */
export interface UpstreamFailure {
  readonly ok: false;
  readonly code: FailureCode;
  readonly message: string;
  /** Trying again later may help without anybody's doing. */
  readonly retryable: boolean;
  readonly oauthError: OAuthErrorCode;
  /** Where another server's answer is what failed. */
  readonly answer?: UpstreamAnswer;
  readonly retryAfterSeconds?: number;
}
