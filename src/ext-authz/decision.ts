/** Name and value of one header; the name in lower case. */
export type Header = readonly [name: string, value: string];

/** The outcome of a check. Only `wire/encode.ts` knows how each becomes protobuf. */
export type Decision = Allow | Ask | Challenge | Deny | Reply | Redirect;

/** The request goes to the upstream with these headers set (overwritten, never appended) and removed. */
export interface Allow {
  readonly kind: "allow";
  readonly setHeaders: readonly Header[];
  readonly removeHeaders: readonly string[];
  /** Overwrite the upstream's: two `Access-Control-Allow-Origin` break browsers. */
  readonly responseHeaders: readonly Header[];
  readonly metadata: AllowMetadata;
}
/**
 * ext_authz dynamic metadata (namespace `envoy.filters.http.ext_authz`) for ext_proc and access logs: ids and versions, never
 * a token. `route` is present on every MCP route; client routes have no metadata.
 */
export type AllowMetadata = Readonly<{
  route?: string;
  /** `Route.upstreamHash`: identifies the upstream that will respond. */
  upstream?: string;
  user?: string;
  client?: string;
  /** User id of the connection's owner, where it is not the user: a service account's owner. */
  owner?: string;
  /** Path of the client's MCP endpoint below the route, if it is not the route's own or listed URL. */
  endpoint?: string;
  /** 1: the user is a service account, which is never sent to consent. */
  service_account?: 1;
  /** The former name of `service_account`, by which it is proven and replicas of the previous version read it. The next minor version removes it. */
  machine?: 1;
  /** `connectionKeyName` and version of the upstream token that was sent; absent where the credential is shared. */
  connection?: string;
  version?: number;
  /** 1: the client can refresh its external token. */
  refreshable?: 1 | 0;
  /** Path the client requested, without query: it determines the protected-resource metadata URL. */
  path?: string;
  request_id?: string;
  /** Policy's filter for `tools/list` responses. */
  tool_filter?: string;
  /** JSON of the `tools/list` request's id, for a response that replaces the list. Not proven: no decision depends on it. */
  list_id?: string;
  /** A POST that may start a session whose client can be asked for consent inside a call. Not proven. */
  new_session?: string;
  /** A GET without a session: the response may be a legacy stream, whose first event names the URL to post to. Not proven. */
  first_event?: string;
  /** Which of the upstream's cookies pass, if not all (ext_proc). Not proven. */
  cookies?: "none" | "typed" | "removals";
  /** Binds the fields in `provenFields` to this request (`external-tokens/metadata-proofs.ts`). Without it, ext_proc does nothing. */
  proof?: string;
}>;
/**
 * The user's consent is missing, and the client may be able to ask for it inside the call: Envoy sends the call to the gateway's HTTP
 * listener, which reads its body and asks or challenges (`consent-required.ts`).
 */
export interface Ask {
  readonly kind: "ask";
  /** Includes the signed header, by which Envoy selects the route again. */
  readonly setHeaders: readonly Header[];
  /** The listener gets neither the external token nor cookies. */
  readonly removeHeaders: readonly string[];
  readonly responseHeaders: readonly Header[];
}
/** 401: the client can fix it by authorizing. */
export interface Challenge {
  readonly kind: "challenge";
  readonly wwwAuthenticate: string;
  readonly body: string;
  readonly headers: readonly Header[];
}
/** The client cannot fix it, or not now. */
export interface Deny {
  readonly kind: "deny";
  readonly status: 400 | 403 | 404 | 413 | 429 | 431 | 502 | 503;
  /** Stable error code, also the metric's `reason`. */
  readonly code: string;
  readonly message: string;
  readonly headers: readonly Header[];
}
/** The gateway responds in place of the upstream. */
export interface Reply {
  readonly kind: "reply";
  readonly status: 200 | 204 | 403;
  readonly headers: readonly Header[];
  readonly body: string;
}
/** For browsers, not API clients. */
export interface Redirect {
  readonly kind: "redirect";
  readonly location: string;
  readonly headers: readonly Header[];
}
