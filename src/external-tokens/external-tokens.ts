import type { TrustedIssuer } from "../config/config.ts";
import type { Route } from "../model/route.ts";
import type { Subject } from "../model/subject.ts";

/**
 * The caller, authenticated by an external token. E-mail, name, groups and claims come from a person's current sign-in record or
 * from a trusted issuer's token; a service account has none.
 */
export interface Caller extends Subject {
  readonly clientId: string;
  /** Absent for foreign issuers' tokens. */
  readonly grantId?: string;
  readonly scopes: readonly string[];
  /** Unix seconds. */
  readonly expiresAt: number;
  readonly kind: "person" | "service_account" | "foreign";
  /** Whether the client can refresh its external token: determines the response to an upstream rejection. */
  readonly refreshable: boolean;
  /** The service account's owner, who currently delegates their connection to this route. */
  readonly delegatedBy?: string;
  /** Path of the client's MCP endpoint below the token's route (`Route.askedPath`). */
  readonly askedPath?: string;
  /** The gateway calls a member of an aggregated route for the caller: the route's id, and the caller's address as its check saw it. */
  readonly via?: { readonly aggregate: string; readonly sourceIp?: string };
}

/** Why an external token was rejected: the metric's `reason`; the challenge's `error_description` puts it in words. */
export type RejectionReason =
  | "malformed"
  | "too_large"
  | "unknown_issuer"
  | "bad_signature"
  | "wrong_type"
  | "wrong_audience"
  | "expired"
  | "not_yet_valid"
  | "missing_claim"
  | "revoked"
  /** The issuer's keys are unknown and cannot be fetched now: 503, because the client is not at fault. */
  | "issuer_unavailable"
  /** Too many tokens wait to be verified: 503. */
  | "too_many_callers";

/** The user, client and grant that a token was issued to. */
export type IssuedTo = Pick<Caller, "userId" | "clientId" | "grantId">;

/** A rejected external token. */
export interface Rejected {
  readonly rejection: RejectionReason;
  /** Set if its signature was valid, for the log and audit trail. It does not authenticate. */
  readonly issuedTo?: IssuedTo;
  /** Set if it was not verified (`too_many_callers`). */
  readonly retryAfterSeconds?: number;
}

export type Verification =
  | { readonly ok: true; readonly caller: Caller }
  | ({ readonly ok: false } & Rejected);

/** The session that a token is minted for. */
export interface SessionHolder {
  readonly userId: string;
  /** The session's hashed handle: the token ends with the session. */
  readonly sessionName: string;
  /** Unix seconds: the token ends no later. */
  readonly sessionExpiresAt: number;
}

/** The caller of an aggregated route, for whom tokens of its members are minted. */
export interface MemberTokenHolder {
  /** The aggregated route. */
  readonly route: Route;
  /** The members' tokens end with the grant. */
  readonly caller: Pick<Caller, "userId" | "clientId" | "scopes"> & { readonly grantId: string };
  /** The caller's address. */
  readonly sourceIp?: string;
}

/** A valid external token, independent of a route. */
export interface Identified {
  readonly ok: true;
  readonly caller: Caller;
  readonly audience: readonly string[];
  /** The token's `iat` (Unix seconds) and `jti`. */
  readonly token: { readonly issuedAt?: number; readonly id?: string };
}

/** Verifies external tokens from clients, and mints those for applications behind client routes and for aggregated routes. */
export interface ExternalTokens {
  /**
   * Verifies an external token for a route. A cached result is returned synchronously, without I/O, while the store's notification
   * listener is healthy. The promise rejects when the store is unavailable: the caller must then deny the request.
   */
  verify(token: string, route: Route): Verification | Promise<Verification>;
  /** The same without a route, for listings, introspection and revocation: the caller checks the audience. Asks the store. */
  identify(token: string): Promise<Identified | { readonly ok: false; readonly rejection: RejectionReason }>;
  /**
   * The external token for an application behind the client route, for a signed-in person: valid for at most one hour, bound to the
   * browser session, with `audience` (resources of MCP routes, never empty). Reused for half of its lifetime, or until it expires if
   * a new one would expire at the same time.
   */
  forSession(holder: SessionHolder, route: Route, audience: readonly string[]): string | Promise<string>;
  /**
   * The external token for a call to a member of an aggregated route: valid for five minutes at that member only, and for nothing else.
   * Reused for half of its life.
   * @throws (rejects) Error if the route does not have this member (any more)
   */
  forMember(holder: MemberTokenHolder, member: Route): Promise<string>;
  close(): void;
}

/** An external token with a valid signature and valid claims; route, expiry and revocation are checked on every use. */
export interface VerifiedToken {
  /** For the gateway's own tokens: without the person's facts, which a token does not contain. */
  readonly caller: Caller;
  readonly audience: readonly string[];
  /** Unix seconds. */
  readonly expiresAt: number;
  /** Its `iat` (Unix seconds) and `jti`, for introspection. */
  readonly token: { readonly issuedAt?: number; readonly id?: string };
  /** The routes of a trusted issuer's entry that its audiences are valid for. */
  readonly routes?: TrustedIssuer["routes"];
  /** The token ends with this grant. */
  readonly grantId?: string;
  /** The token ends with this browser session. */
  readonly sessionName?: string;
  /** When signature and claims are verified again (Unix ms), because foreign issuers do not notify us of revoked keys. */
  readonly verifyAgainAt?: number;
}

/** Only the ids of a token's caller. */
export function issuedTo({ userId, clientId, grantId }: Caller): IssuedTo {
  return { userId, clientId, grantId };
}
