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
  /** Whether the client can get a new TE by itself (a refresh token stands behind it): decides F4.6's answer. */
  readonly refreshable: boolean;
  /** A service account's owner, whose connection to this route it may use by that person's consent as it stands now (F2.4). */
  readonly delegatedBy?: string;
  /** Where below the token's route its client has its MCP endpoint (`Route.askedPath`). */
  readonly askedPath?: string;
}

/** Why a TE was not accepted; the metric's `reason`, and the challenge's `error_description` in words. */
export type Refusal =
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
export interface Refused {
  readonly refusal: Refusal;
  /** Where its signature was good, for log and audit trail: it proves nothing any more. */
  readonly issuedTo?: IssuedTo;
}

export type Verification =
  | { readonly ok: true; readonly caller: Caller }
  | ({ readonly ok: false } & Refused);
