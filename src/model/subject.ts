import type { Route } from "./route.ts";

/** Who asks, as far as policy cares. A `Caller` (a verified TE) and a `Person` (a browser session) both are one. */
export interface Subject {
  readonly userId: string;
  readonly email?: string;
  readonly name?: string;
  readonly groups: readonly string[];
  readonly claims: Readonly<Record<string, unknown>>;
}

/** One request, as policy sees it. */
export interface PolicyInput {
  readonly caller: Subject;
  /** HTTP method as received. */
  readonly method: string;
  /** Path as received, without the query, in normal form. */
  readonly path: string;
  /** How Envoy rewrites the path; absent: not at all. */
  readonly route?: Pick<Route, "prefix" | "upstreamPath">;
  /** The peer's address; absent or unreadable: `source_ip` fails closed. */
  readonly sourceIp?: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Request headers, names in lower case; several of one name joined by a comma, as Envoy hands them over. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** The raw request body, only where `RoutePolicy.needsBody`. */
  readonly body?: Uint8Array;
}

/** Stands before the slash in the user ids of machines (`service-account/NAME`), and is the client id of all of them. */
export const serviceAccountId = "service-account";
