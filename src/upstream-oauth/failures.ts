/** Why an authorization, a discovery or a token request failed. Stable; used in logs, metrics and `doctor`. */
export type FailureCode =
  /** Route gone, disabled, or of a kind that needs no consent. */
  | "route_unavailable"
  /** The callback has no `state`, or one of another browser, user or host, or one that is unknown, used or expired. */
  | "state_missing"
  | "state_of_other_browser"
  | "state_of_other_user"
  /** The callback belongs to another authorization server or another route (RFC 9700 section 4.4.2.2). */
  | "state_of_other_server"
  | "state_unknown"
  /** The user denied access at the upstream's authorization server. */
  | "consent_denied"
  /** That server returned another error for the authorization request. */
  | "authorization_rejected"
  /** RFC 9207. */
  | "issuer_mismatch"
  /** The upstream names a different authorization server than the one that the configured credentials belong to. */
  | "issuer_changed"
  /** The upstream names an authorization server that another upstream uses, or that signs users in. */
  | "issuer_of_other_route"
  /** The user must first confirm the server and the scopes. */
  | "notice_needed"
  | "response_invalid"
  | "discovery_failed"
  /** The route's upstream is not an MCP server, or does not respond as one. */
  | "not_an_mcp_server"
  /** The stream of a legacy HTTP+SSE server sends clients to another host, or to a path of another route. */
  | "upstream_endpoint_elsewhere"
  /** The upstream rejects the key or the headers of the routes file. */
  | "credential_rejected"
  /** The upstream asks for a credential, and the route has none (`upstream_auth: none`). */
  | "credential_missing"
  | "resource_mismatch"
  | "metadata_invalid"
  | "metadata_domain_not_allowed"
  | "endpoint_not_allowed"
  /** A redirect that is not followed. */
  | "redirect_not_followed"
  /** A response above `upstream_oauth.max_response_bytes`. */
  | "response_too_large"
  | "pkce_not_supported"
  | "registration_unavailable"
  | "registration_rejected"
  | "client_rejected"
  /** The URL from metadata or the routes file does not accept token requests. */
  | "token_endpoint_unusable"
  | "token_request_rejected"
  | "token_invalid"
  | "rate_limited"
  | "server_error"
  | "unreachable"
  /** The token request needs the user's sign-in token, which is missing. */
  | "sign_in_token_missing"
  | "key_unusable"
  /** The user has disconnected, been removed or connected again since the authorization flow started. */
  | "disconnected_during_authorization"
  /** The database is unavailable: the token is stored as soon as it is back. */
  | "storage_unavailable";

/**
 * Descriptions for users and MCP clients, about "the server". They contain no text from other servers, so a code from a link can be
 * shown safely.
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

const transient = new Set<FailureCode>([
  "rate_limited",
  "server_error",
  "unreachable",
  "storage_unavailable",
]);

/** Whether a later attempt may succeed without any change. */
export function isTransient(code: FailureCode): boolean {
  return transient.has(code);
}

/** Reads a failure code from untrusted input. */
export function readFailureCode(value: unknown): FailureCode | undefined {
  return typeof value === "string" && Object.hasOwn(failureWords, value) ? (value as FailureCode) : undefined;
}

/** The other side's response to the failed step, as far as it can be shown. */
export interface UpstreamAnswer {
  /** Host, with the port if it is not the default. */
  readonly server: string;
  /** HTTP status; absent if the response came through the browser. */
  readonly status?: number;
  /** Its OAuth error code, if it is a single word. */
  readonly error?: string;
}

/** Query parameters that carry a response through the browser. */
const answerParameters = {
  server: "connect_error_server",
  status: "connect_error_status",
  error: "connect_error_upstream",
} as const;

/** Another server's error code, if it is a single word: sentences from other servers are never shown. */
export function errorWord(error: string | undefined): string | undefined {
  return error !== undefined && /^[A-Za-z][\w.-]{0,63}$/.test(error) ? error : undefined;
}

export function writeUpstreamAnswer(query: URLSearchParams, { server, status, error }: UpstreamAnswer): void {
  query.set(answerParameters.server, server);
  if (status !== undefined) query.set(answerParameters.status, String(status));
  if (error !== undefined) query.set(answerParameters.error, error);
}

/** Reads untrusted input: a host, a number and a word, or nothing. */
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

/** What the operator can do if a later attempt does not help; for an engineer who only sees the client's log. */
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
 * Describes a failure for an MCP client's engineer: what happened, which server returned what, and what to do. Contains only characters
 * allowed in `error_description` (RFC 6749 section 4.1.2.1), and nothing from other servers except host and error code.
 *
 * @param ownHosts hosts of the upstream, which may be internal and are not named
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

/** Describes a failed authorization for the MCP client and its user. */
export function notConnected(...failure: Parameters<typeof describeFailure>): string {
  return `the server behind this route could not be connected: ${describeFailure(...failure)}`;
}

/** Whether the user or policy denied access, so that no details are shown. @param code the OAuth error code */
export function isDenial(code: unknown, reason: FailureCode | undefined): boolean {
  return code === "access_denied" && reason !== "disconnected_during_authorization";
}

/** Describes to the caller why a call cannot be forwarded. @param reason why there is no upstream token: a failure code or another word */
export function notUsable(reason: string): string {
  if (reason === "refresh_under_way_elsewhere")
    return "the credential for this server has expired, and is being refreshed; try again later";
  if (reason === "refresh_waiting" || reason === "too_many_refreshes")
    return "the credential for this server has expired, like many others at the same time, and is refreshed in its turn; try again later";
  const code = readFailureCode(reason);
  return code === undefined
    ? "the server's authorization server cannot be reached now; try again later"
    : `this server cannot be used now: ${failureWords[code]} (${code})`;
}

/** RFC 6749 section 4.1.2.1: the error code for the MCP client or the application. */
export type OAuthErrorCode = "access_denied" | "server_error" | "temporarily_unavailable" | "invalid_request";

/** A failure as shown to a user or an operator. Never quotes another server. */
export interface UpstreamFailure {
  readonly ok: false;
  readonly code: FailureCode;
  readonly message: string;
  /** A later attempt may succeed without any change. */
  readonly retryable: boolean;
  readonly oauthError: OAuthErrorCode;
  /** Set if another server's response is the failure. */
  readonly answer?: UpstreamAnswer;
  readonly retryAfterSeconds?: number;
}

/** Why a connection was not created. Fixed texts only: anyone can create a link with an error code. */
export function failureInWords(code: string | string[], reason?: FailureCode): string {
  const isDenied = isDenial(code, reason);
  if (reason !== undefined && !isDenied) return `${failureWords[reason]} (${reason}).`;
  if (isDenied && reason === "consent_denied")
    return "you did not allow it there, or its authorization server denied it.";
  if (isDenied) return "you cancelled, it was denied there, or you may not use this server.";
  if (code === "temporarily_unavailable") return "its sign-in is unavailable. Try again later.";
  return "its sign-in failed. Try again; if it keeps failing, tell your administrator.";
}
