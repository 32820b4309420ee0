import type { Route } from "./route.ts";

/** The subject that policy decides about: a `Caller` (a verified external token) or a `BrowserSession`. */
export interface Subject {
  /** `provider-id/subject`, or `service-account/name`. */
  readonly userId: string;
  readonly email?: string;
  readonly name?: string;
  readonly groups: readonly string[];
  /** The provider's claims that policy may read, without protocol claims: the client chooses some of those (`scope`). */
  readonly claims: Readonly<Record<string, unknown>>;
}

/** A request, as policy sees it. */
export interface PolicyInput {
  readonly caller: Subject;
  /** HTTP method as received. */
  readonly method: string;
  /** Normalized path without the query. */
  readonly path: string;
  /** How Envoy rewrites the path, if it does. */
  readonly route?: Pick<Route, "prefix" | "upstreamPath">;
  /** The client's address; if absent or invalid, `source_ip` fails closed. */
  readonly sourceIp?: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Request headers as Envoy sends them: names in lower case, repeated headers joined by a comma. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** The raw request body, only if `RoutePolicy.needsBody`. */
  readonly body?: Uint8Array;
  /** Envoy sent the body as text (without `pack_as_bytes`): each byte that is not UTF-8 is a `!` in it. */
  readonly bodyIsText?: boolean;
}

/** Prefix of the user ids of service accounts (`service-account/NAME`), and their client id. */
export const serviceAccountId = "service-account";
