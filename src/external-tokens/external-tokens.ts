import type { TrustedIssuer } from "../config/config.ts";
import type { Route } from "../model/route.ts";

/**
 * Who calls, as proven by an external token. E-mail, name, groups and claims are a person's as their sign-in record has them now,
 * a trusted issuer's token's own, and nobody's for a service account.
 */
export interface Caller {
  /** `provider-id/subject`, or `service-account/name`. */
  readonly userId: string;
  readonly email?: string;
  readonly name?: string;
  readonly groups: readonly string[];
  /** The provider's claims that policy may read: never the protocol's, of which the client chose some (`scope`). */
  readonly claims: Readonly<Record<string, unknown>>;
  readonly clientId: string;
  /** Absent for foreign issuers' tokens. */
  readonly grantId?: string;
  readonly scopes: readonly string[];
  /** Unix seconds. */
  readonly expiresAt: number;
  readonly kind: "person" | "service_account" | "foreign";
  /** Whether the client can get a new TE by itself (a refresh token stands behind it): decides how an upstream's rejection is answered. */
  readonly refreshable: boolean;
  /** A service account's owner, whose connection to this route it may use by that person's consent as it stands now. */
  readonly delegatedBy?: string;
  /** Where below the token's route its client has its MCP endpoint (`Route.askedPath`). */
  readonly askedPath?: string;
}

/** Why a TE was not accepted; the metric's `reason`, and the challenge's `error_description` in words. */
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
  /** Its issuer's keys are unknown and cannot be fetched now: 503, the client has done nothing wrong. */
  | "issuer_unavailable";

/** To whom a token was issued. */
export type IssuedTo = Pick<Caller, "userId" | "clientId" | "grantId">;

/** A TE that was not accepted. */
export interface Rejected {
  readonly rejection: RejectionReason;
  /** Where its signature was good, for log and audit trail: it proves nothing any more. */
  readonly issuedTo?: IssuedTo;
}

export type Verification =
  | { readonly ok: true; readonly caller: Caller }
  | ({ readonly ok: false } & Rejected);

/** Whose session a token is minted for. */
export interface SessionHolder {
  readonly userId: string;
  /** `secretName` of the session: the token dies with it. */
  readonly sessionName: string;
  /** Unix seconds: it ends no later. */
  readonly sessionExpiresAt: number;
}

/** A good TE apart from any route. */
export interface Identified {
  readonly ok: true;
  readonly caller: Caller;
  readonly audience: readonly string[];
  /** The token's `iat` (Unix seconds) and `jti`. */
  readonly token: { readonly issuedAt?: number; readonly id?: string };
}

/** External tokens: verifying what clients show, minting what applications behind client routes get. */
export interface ExternalTokens {
  /**
   * Verifies a TE for a route. A value at hand (a token seen before, the store's notifications healthy) comes without a
   * promise and without I/O. Rejects when the store cannot be asked: the caller must not let the request through.
   */
  verify(token: string, route: Route): Verification | Promise<Verification>;
  /** The same without a route, for listings, introspection and revocation: audience is the caller's to judge. Asks the store. */
  identify(token: string): Promise<Identified | { readonly ok: false; readonly rejection: RejectionReason }>;
  /**
   * The TE an application behind the client route gets for a signed-in person: one hour at most, bound to the browser
   * session, good for `audience` (resources of MCP routes, never empty). Minted once and reused until half its life is over, or to its
   * end where a new one would end no later.
   */
  forSession(holder: SessionHolder, route: Route, audience: readonly string[]): string | Promise<string>;
  close(): void;
}

/** A TE whose signature and fixed claims are good; route, time and revocation are looked at on every use. */
export interface VerifiedToken {
  /** Of one of our own tokens: without what is known about a person, which a token does not carry. */
  readonly caller: Caller;
  readonly audience: readonly string[];
  /** Unix seconds. */
  readonly expiresAt: number;
  /** Its `iat` (Unix seconds) and `jti`, for introspection. */
  readonly token: { readonly issuedAt?: number; readonly id?: string };
  /** A trusted issuer's word on which routes its audiences open. */
  readonly routes?: TrustedIssuer["routes"];
  /** Dies with this grant. */
  readonly grantId?: string;
  /** Dies with this browser session. */
  readonly sessionName?: string;
  /** Signature and claims are verified again then (Unix ms), because a foreign issuer tells us of no revoked key. */
  readonly verifyAgainAt?: number;
}

/** Who a token's caller is, without what else is known of them. */
export function issuedTo({ userId, clientId, grantId }: Caller): IssuedTo {
  return { userId, clientId, grantId };
}
