import type { TrustedIssuer } from "../config/config.ts";
import type { Caller } from "./caller.ts";

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
  /** Dies with this browser session (F5.1). */
  readonly sessionName?: string;
  /** Signature and claims are verified again then (Unix ms), because a foreign issuer tells us of no revoked key. */
  readonly verifyAgainAt?: number;
}
