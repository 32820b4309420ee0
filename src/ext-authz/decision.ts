/** Name and value of one header; the name in lower case. */
export type Header = readonly [name: string, value: string];

/** What a check comes to. `response.ts` alone knows how each becomes protobuf. */
export type Decision = Allow | Challenge | Deny | Reply | Redirect;

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
 * ext_authz dynamic metadata (namespace `envoy.filters.http.ext_authz`) for `ext-proc/` and access logs: ids and versions,
 * never a token. `route` is there on every MCP route; nothing at all on client routes.
 */
export type AllowMetadata = Readonly<{
  route?: string;
  /** `Route.upstreamHash`: whose answer it is that comes back. */
  upstream?: string;
  user?: string;
  client?: string;
  /** Whose connection went along, where it is not the user's: a service account's owner. */
  owner?: string;
  /** Where below the route the client has its MCP endpoint, if not at its own or listed URL. */
  endpoint?: string;
  /** 1: the user is a service account, which is never sent to consent. */
  service_account?: 1;
  /** The former name of `service_account`, by which it is proven and replicas of the previous version read it. The next minor version removes it. */
  machine?: 1;
  /** `connectionKeyName` and version of the TI that went along; absent where it is nobody's own. */
  connection?: string;
  version?: number;
  /** 1: the client can get a new TE by itself. */
  refreshable?: 1 | 0;
  /** Path the client asked for, without query: its protected-resource metadata is told by it. */
  path?: string;
  request_id?: string;
  /** What `policy/` wants to be applied to `tools/list` answers. */
  tool_filter?: string;
  /** JSON of the id of the `tools/list`, for an answer that takes the list's place. Not proven: nothing is judged by it. */
  list_id?: string;
  /** A GET without a session: the answer may be a legacy stream, whose first event says where to post. Not proven. */
  first_event?: string;
  /** Which of the upstream's cookies pass where not all do (`challenge/`). Not proven. */
  cookies?: "none" | "typed" | "removals";
  /** Binds all of the above that `provenFields` names to this request (`external-token/metadata-proofs.ts`): without it ext_proc does nothing. */
  proof?: string;
}>;
/** 401: the client can repair it by authorizing. */
export interface Challenge {
  readonly kind: "challenge";
  readonly wwwAuthenticate: string;
  readonly body: string;
  readonly headers: readonly Header[];
}
/** The client cannot repair it, or not now. */
export interface Deny {
  readonly kind: "deny";
  readonly status: 400 | 403 | 404 | 413 | 429 | 431 | 502 | 503;
  /** Stable machine word, also the metric's `reason`. */
  readonly code: string;
  readonly message: string;
  readonly headers: readonly Header[];
}
/** We answer in the upstream's place. */
export interface Reply {
  readonly kind: "reply";
  readonly status: 200 | 204 | 403;
  readonly headers: readonly Header[];
  readonly body: string;
}
/** A browser, not an API client. */
export interface Redirect {
  readonly kind: "redirect";
  readonly location: string;
  readonly headers: readonly Header[];
}
