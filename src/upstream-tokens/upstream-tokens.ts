import type { CurrentRoutes } from "../config/route-table.ts";
import type { ConnectionKey } from "../model/connection.ts";
import { needsPersonsConnection, nonInteractiveAuth, type Route, upstreamAuth } from "../model/route.ts";
import type { AuditCause } from "../store/audit-events.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { UpstreamOAuthError } from "../upstream-oauth/errors.ts";
import { type FailureCode, isTransient } from "../upstream-oauth/failures.ts";
import type { Revocation, UpstreamOAuth } from "../upstream-oauth/upstream-oauth.ts";
import type { Admission } from "../util/admission.ts";

/** The credential for an upstream, as headers. */
export type Credential =
  | {
      readonly kind: "credential";
      /** Lower-case names. `authorization` for upstream tokens; others for API keys; empty for `none`. */
      readonly headers: readonly (readonly [name: string, value: string])[];
      /** `connectionKeyName` of the connection; absent for shared credentials. */
      readonly connection?: string;
      /** Version of the upstream token, for `ext-proc/`. */
      readonly version?: number;
      /** For DPoP-bound tokens (RFC 9449): creates the proof header of a request. */
      readonly proof?: (method: string, url: string) => Promise<readonly (readonly [string, string])[]>;
    }
  /** The user must consent (again): challenge, with these scopes if known. */
  | { readonly kind: "missing"; readonly scopes: readonly string[]; readonly reason: string }
  /** The user cannot fix it: 503 with `Retry-After`. */
  | {
      readonly kind: "unavailable";
      readonly retryAfterSeconds: number;
      readonly reason: string;
      /** Why no caller's call can succeed: the upstream cannot be probed. */
      readonly fault?: FailureCode;
    }
  /** This caller cannot get a credential here, for example a service account on a route that needs consent: 403. */
  | { readonly kind: "forbidden"; readonly reason: string };

type Ready = Extract<Credential, { kind: "credential" }>;
const made = new WeakMap<Route, Ready>();
const nothing: Ready = { kind: "credential", headers: [] };

/** The credential from the routes file, the same for every caller; undefined if tokens are needed. */
export function staticCredential(route: Route): Ready | undefined {
  const auth = upstreamAuth(route);
  if (auth === undefined) return nothing;
  if (auth.mode !== "static") return undefined;
  let credential = made.get(route);
  if (!credential) {
    credential = { kind: "credential", headers: auth.headers };
    made.set(route, credential);
  }
  return credential;
}

export function missing(scopes: readonly string[], reason: string): Extract<Credential, { kind: "missing" }> {
  return { kind: "missing", scopes, reason };
}

export function forbidden(reason: string): Extract<Credential, { kind: "forbidden" }> {
  return { kind: "forbidden", reason };
}

/** The result while it is unknown whether the upstream needs a token. */
export function needUnknown(thrown: unknown): Credential {
  const { code } = UpstreamOAuthError.from(thrown, "the upstream cannot be probed");
  return { kind: "unavailable", retryAfterSeconds: isTransient(code) ? 5 : 60, reason: code, fault: code };
}

/** Service accounts cannot consent: turns a missing credential into a denial. */
export function forServiceAccount(found: Credential, route: Route): Credential {
  if (found.kind !== "missing") return found;
  return forbidden(
    needsPersonsConnection(route)
      ? `the delegated connection has ended or lacks a permission (${found.reason}); its owner must connect the server again`
      : `a service account has no sign-in whose token could be exchanged (${found.reason})`,
  );
}

/** For grants without consent, only a missing sign-in token leads to a challenge: signing in again helps then. */
export function goneCredential(reason: string, route: Route): Credential {
  if (!nonInteractiveAuth(route)) return missing([], reason);
  if (reason === "sign_in_token_missing") return missing([], reason);
  return { kind: "forbidden", reason: `the server's authorization server issues no token (${reason})` };
}

/** The part of a caller that this module needs; `Caller` of external-tokens/ is assignable. */
export interface TokenCaller {
  readonly userId: string;
  readonly kind: "person" | "service_account" | "foreign";
  /** MCP client and grant, for the audit trail. */
  readonly clientId?: string;
  readonly grantId?: string;
  /** A service account's owner who has delegated a connection to it. */
  readonly delegatedBy?: string;
  /** The external token, for routes whose `token_exchange` exchanges it. */
  readonly externalToken?: string;
  /** Path of its MCP endpoint below the route (`Route.askedPath`), from its external token. */
  readonly askedPath?: string;
}

export interface ConnectionState {
  /** `unavailable`: the token has expired and cannot be refreshed now, or the upstream cannot be probed. */
  readonly state: "connected" | "not_needed" | "missing" | "unavailable";
  /** Required scopes that the connection lacks. */
  readonly missingScopes: readonly string[];
  /** `unavailable`, and a new sign-in at the sign-in provider would fix it. */
  readonly signInNeeded?: boolean;
  /** Why no caller's call can succeed; with `not_needed` or `unavailable`. */
  readonly fault?: FailureCode;
}

/** An upstream's 401 or 403 for a request that `ext-authz/` allowed. */
export interface UpstreamRejection {
  readonly userId: string;
  readonly routeId: string;
  /** `Route.upstreamHash` of the upstream that answered. */
  readonly upstreamHash?: string;
  /** `askedPath` of the caller. */
  readonly askedPath?: string;
  /** Version of the injected upstream token; absent: none. */
  readonly version?: number;
  readonly status: 401 | 403;
  /** All `WWW-Authenticate` values, joined by commas; "" if there was none. */
  readonly wwwAuthenticate: string;
  /** `DPoP-Nonce` header (RFC 9449 section 9). */
  readonly dpopNonce?: string;
}

/** The outcome of a rejection. `reason` is a stable code for log and metric. */
export type RejectionOutcome =
  /** Not about the upstream token: the client gets the upstream's response unchanged. */
  | { readonly kind: "untouched"; readonly reason: string }
  /** A newer upstream token is available: 401 `invalid_token`, or 503 with `Retry-After: 0` for clients that cannot get a new external token. */
  | { readonly kind: "retry"; readonly reason: string }
  /** 401 challenge with all scopes for the next authorization: the user must consent (again). */
  | { readonly kind: "consent"; readonly scopes: readonly string[]; readonly reason: string }
  /** 503 with `Retry-After`: the upstream token cannot be refreshed now. */
  | { readonly kind: "unavailable"; readonly retryAfterSeconds: number; readonly reason: string }
  /**
   * Consent would not help, or has just not helped: a response without a challenge, to avoid a loop. The upstream's own `WWW-Authenticate`
   * must not reach the client either.
   */
  | {
      readonly kind: "give_up";
      readonly status: 403 | 502;
      readonly reason: string;
      /** For users; without quotes. */
      readonly message: string;
    };

/** The upstream tokens of all users. */
export interface UpstreamTokens {
  /** The hot path: synchronous if the connection is cached. @param now ms */
  find(caller: TokenCaller, route: Route, now?: number): Credential | Promise<Credential>;
  /** For consent and listings; an expired token is refreshed first. Rejects only if the store does. */
  connectionState(userId: string, route: Route): Promise<ConnectionState>;
  /**
   * Verifies the connection's token with one request to the upstream, and handles a 401 like `handleRejection`. Does nothing without a
   * connection, or if the upstream gives no usable answer. Rejects only if the store does.
   */
  verify(userId: string, route: Route): Promise<void>;
  /** Deletes the connection and revokes its tokens at the upstream; false if there was none. */
  disconnect(userId: string, route: Route): Promise<boolean>;
  /** The same for a connection whose route may have been removed; undefined if there was none. @param cause of the audit events */
  end(key: ConnectionKey, cause?: AuditCause): Promise<Revocation | undefined>;
  /** The same for all connections of a removed user; returns how many. */
  disconnectAll(userId: string): Promise<number>;
  /** The same for connections whose route was removed a day ago, on one replica at a time; call it periodically on each. */
  disconnectOrphans(): Promise<number>;
  /** Decides how to answer an upstream's rejection, and refreshes the token if possible. Rejects only if the store does. */
  handleRejection(rejection: UpstreamRejection): Promise<RejectionOutcome>;
  /** Stops the background refresh, and waits for refreshes in progress. */
  close(): Promise<void>;
}

/** Dependencies of this module. */
export interface UpstreamTokensDeps {
  readonly routes: CurrentRoutes;
  readonly store: Pick<
    Store,
    | "upstreamTokens"
    | "orphanedUpstreams"
    | "backgroundWork"
    | "signInSessions"
    | "delegations"
    | "notifications"
    | "audit"
  >;
  readonly upstreamOAuth: Pick<
    UpstreamOAuth,
    "refresh" | "grant" | "revoke" | "needed" | "fault" | "noteNeeded" | "forget" | "probe"
  >;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** For the reads of checks; default: no limit. */
  readonly admission?: Pick<Admission, "run" | "turnAway">;
  /** Interval of the background refresh, ms (30000); 0: never. */
  readonly refreshAheadEveryMs?: number;
  /** How long connections of a removed route are kept, seconds (a day). */
  readonly orphanGraceSeconds?: number;
}
