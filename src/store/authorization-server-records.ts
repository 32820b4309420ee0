import type { AuditEvent } from "./audit-events.ts";
import type { DelegationsAsked } from "./delegations.ts";

/** One record of oidc-provider's adapter; `id` is hashed, `payload` encrypted. */
export interface AuthorizationServerRecord {
  readonly model: string;
  readonly id: string;
  readonly payload: Record<string, unknown>;
  readonly expiresAt?: Date;
  readonly consumedAt?: Date;
}

export interface GrantSummary {
  readonly grantId: string;
  readonly userId: string;
  readonly clientId: string;
  readonly payload: Record<string, unknown>;
  readonly createdAt: Date;
  /** When its client last obtained tokens. */
  readonly lastUsedAt: Date;
}

export interface AuthorizationServerRecords {
  /** @param asked of a service account's grant: whose connections it asks for, which the owner sees from then on */
  upsert(
    record: Omit<AuthorizationServerRecord, "consumedAt">,
    audit?: AuditEvent,
    asked?: DelegationsAsked,
  ): Promise<void>;
  /**
   * `upsert` of what a person's sign-in allows (a grant), or a grant (its codes and tokens). False: that has ended, and nothing is stored.
   * Whatever ends it at the same time comes before, or ends this, too.
   */
  upsertIfAllowed(
    record: Omit<AuthorizationServerRecord, "consumedAt">,
    audit?: AuditEvent,
  ): Promise<boolean>;
  find(model: string, id: string): Promise<AuthorizationServerRecord | undefined>;
  findByUid(model: string, uid: string): Promise<AuthorizationServerRecord | undefined>;
  findByUserCode(model: string, userCode: string): Promise<AuthorizationServerRecord | undefined>;
  /** One conditional update; false for the loser of a race. */
  consume(model: string, id: string): Promise<boolean>;
  /**
   * Uses up a refresh token and stores its successor, in one transaction. False for the loser of a race: nothing is stored then.
   * @param repeatableFor seconds in which `successorOf` knows the successor, which is kept encrypted until then; 0: never
   */
  rotateRefreshToken(
    usedId: string,
    successor: Omit<AuthorizationServerRecord, "model" | "consumedAt">,
    repeatableFor: number,
  ): Promise<boolean>;
  /**
   * The id of the refresh token that took the place of this one, while that may be repeated: it and its grant are live, and it has
   * not been used.
   * @param audit written if there is one: it is about to be given out again
   */
  successorOf(usedId: string, audit?: AuditEvent): Promise<string | undefined>;
  /** Forgets which successor a used refresh token had. */
  forgetSuccessor(usedId: string): Promise<void>;
  destroy(model: string, id: string): Promise<void>;
  /** Deletes all records of a grant, the grant included, and notifies every replica. */
  revokeGrant(grantId: string, audit: AuditEvent): Promise<boolean>;
  /** A grant that exists and has not expired. */
  grantIsLive(grantId: string): Promise<boolean>;
  /** Whether anybody has a live grant for this client. */
  clientHasGrant(clientId: string): Promise<boolean>;
  grants(filter: { userId?: string; clientId?: string }): Promise<GrantSummary[]>;
}
