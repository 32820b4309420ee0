import type { Caller } from "./caller.ts";

/** A TE whose signature and fixed claims are good; route, time and revocation are looked at on every use. */
export interface VerifiedToken {
  readonly caller: Caller;
  readonly audience: readonly string[];
  /** Unix seconds. */
  readonly expiresAt: number;
  /** Dies with this grant. */
  readonly grantId?: string;
  /** Dies with this browser session (F5.1). */
  readonly sessionName?: string;
  /** Signature and claims are verified again then (Unix ms), because a foreign issuer tells us of no revoked key. */
  readonly verifyAgainAt?: number;
}
