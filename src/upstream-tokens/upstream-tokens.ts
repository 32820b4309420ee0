import type { CurrentRoutes } from "../config/route-table.ts";
import type { ConnectionKey } from "../model/connection.ts";
import { type Route, upstreamAuth } from "../model/route.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { FailureCode } from "../upstream-oauth/failures.ts";
import type { UpstreamOAuth } from "../upstream-oauth/upstream-oauth.ts";

/** What the upstream gets for a caller, ready to be set as headers. */
export type Credential =
  | {
      readonly kind: "credential";
      /** Lower-case names. `authorization` for TIs; others for API keys; empty for `none`. */
      readonly headers: readonly (readonly [name: string, value: string])[];
      /** `connectionKeyName` of the connection; absent for credentials that are nobody's own. */
      readonly connection?: string;
      /** Version of the TI, for `challenge/`. */
      readonly version?: number;
      /** DPoP-bound (RFC 9449): makes the proof header for this request. */
      readonly proof?: (method: string, url: string) => Promise<readonly (readonly [string, string])[]>;
    }
  /** The user has to consent (again): challenge, with these scopes where known. */
  | { readonly kind: "missing"; readonly scopes: readonly string[]; readonly reason: string }
  /** Nothing the user could do: 503 with `Retry-After`. */
  | {
      readonly kind: "unavailable";
      readonly retryAfterSeconds: number;
      readonly reason: string;
      /** Why no call would get anywhere, whoever sends it: the upstream cannot be asked whether it needs a token. */
      readonly fault?: FailureCode;
    }
  /** This caller can never have one here (a service account on a route that needs a person's consent): 403. */
  | { readonly kind: "forbidden"; readonly reason: string };

type Ready = Extract<Credential, { kind: "credential" }>;
const made = new WeakMap<Route, Ready>();
const nothing: Ready = { kind: "credential", headers: [] };

/** The credential that stands in the routes file, the same for every caller; undefined where tokens are needed. */
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

/** What this room needs to know of a caller; `Caller` of external-token/ fits. */
export interface TokenCaller {
  readonly userId: string;
  readonly kind: "person" | "service_account" | "foreign";
  /** By which MCP client, under which grant: for the audit trail. */
  readonly clientId?: string;
  readonly grantId?: string;
  /** A service account's owner, whose connection it may use by that person's consent. */
  readonly delegatedBy?: string;
  /** The TE itself, for routes whose `token_exchange` exchanges it. */
  readonly externalToken?: string;
  /** Where below the route its MCP endpoint is (`Route.askedPath`), by its external token. */
  readonly askedPath?: string;
}

export interface ConnectionState {
  /** `unavailable`: a token is there but expired, and cannot be refreshed now; or the upstream cannot be asked whether it needs one. */
  readonly state: "connected" | "not_needed" | "missing" | "unavailable";
  /** What the upstream has asked for and the connection lacks. */
  readonly missingScopes: readonly string[];
  /** `unavailable`, and signing in at the company's provider again would mend it. */
  readonly signInNeeded?: boolean;
  /** Why no call would get anywhere, whoever sends it; `not_needed` or `unavailable`. */
  readonly fault?: FailureCode;
}

/** An upstream's 401 or 403 to a request that `check/` had let through. */
export interface UpstreamRejection {
  readonly userId: string;
  readonly routeId: string;
  /** `Route.upstreamHash` of the upstream that answered. */
  readonly upstreamHash?: string;
  /** `CallerLike.askedPath` of who called. */
  readonly askedPath?: string;
  /** Version of the TI that went along; absent: none did. */
  readonly version?: number;
  readonly status: 401 | 403;
  /** All `WWW-Authenticate` values, joined by commas; "" when there was none. */
  readonly wwwAuthenticate: string;
  /** `DPoP-Nonce` header (RFC 9449 section 9). */
  readonly dpopNonce?: string;
}

/** What a refusal comes to. `reason` is a stable word for log and metric. */
export type RejectionOutcome =
  /** None of our business: the client gets the upstream's answer as it is. */
  | { readonly kind: "untouched"; readonly reason: string }
  /** A better TI is at hand: 401 `invalid_token`, or 503 with `Retry-After: 0` for clients that cannot get a new TE. */
  | { readonly kind: "retry"; readonly reason: string }
  /** 401 challenge with these scopes (all that the next consent should bring): the person has to consent (again). */
  | { readonly kind: "consent"; readonly scopes: readonly string[]; readonly reason: string }
  /** 503 with `Retry-After`: the TI might be refreshable, but not now. */
  | { readonly kind: "unavailable"; readonly retryAfterSeconds: number; readonly reason: string }
  /**
   * Consent would not help, or has just been given in vain: an answer without a challenge, or the client would go round in
   * circles. The upstream's own `WWW-Authenticate` must not reach the client either.
   */
  | {
      readonly kind: "give_up";
      readonly status: 403 | 502;
      readonly reason: string;
      /** For a person; no quotes. */
      readonly message: string;
    };

/** The TIs of all users: found, kept fresh, given up. */
export interface UpstreamTokens {
  /** The hot path: no promise where the answer is at hand. @param now ms */
  find(caller: TokenCaller, route: Route, now?: number): Credential | Promise<Credential>;
  /** For consent and listings; an expired token is refreshed first. Rejects only when the store does. */
  connectionState(userId: string, route: Route): Promise<ConnectionState>;
  /** Deletes the connection and revokes its tokens at the upstream; false if there was none. */
  disconnect(userId: string, route: Route): Promise<boolean>;
  /** The same for a connection whose route may have gone. */
  end(key: ConnectionKey, reason?: string): Promise<boolean>;
  /** The same for all connections of a person who has gone; how many there were. */
  disconnectAll(userId: string): Promise<number>;
  /** The same for connections whose route has been gone for a day; to be called now and then. */
  disconnectOrphans(): Promise<number>;
  /** Decides what becomes of an upstream's refusal, and repairs what can be repaired. Rejects only when the store does. */
  handleRejection(refusal: UpstreamRejection): Promise<RejectionOutcome>;
  /** Stops the background refresh, and waits for refreshes under way. */
  close(): Promise<void>;
}

/** What main.ts gives this room. */
export interface UpstreamTokensDeps {
  readonly routes: CurrentRoutes;
  readonly store: Pick<
    Store,
    "upstreamTokens" | "signInSessions" | "delegations" | "notifications" | "audit"
  >;
  readonly upstreamOAuth: Pick<
    UpstreamOAuth,
    "refresh" | "grant" | "revoke" | "needed" | "fault" | "noteNeeded" | "forget"
  >;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** How often the background refresh looks for work, ms (30000); 0: never. */
  readonly refreshAheadEveryMs?: number;
  /** How long a connection outlives its route, seconds (a day). */
  readonly orphanGraceSeconds?: number;
}
