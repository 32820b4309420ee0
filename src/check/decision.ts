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
  /** ext_authz dynamic metadata for `challenge/`: ids and versions, never a token. */
  readonly metadata: Readonly<Record<string, string | number>>;
}
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
  readonly status: 200 | 204;
  readonly headers: readonly Header[];
  readonly body: string;
}
/** A browser, not an API client. */
export interface Redirect {
  readonly kind: "redirect";
  readonly location: string;
  readonly headers: readonly Header[];
}
