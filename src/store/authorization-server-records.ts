import type { AuditEvent } from "./audit-events.ts";
import type { RequestedDelegations } from "./delegations.ts";
import type { GrantedMember } from "./granted-members.ts";

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
  /** Empty if no key decrypts it: the grant is valid all the same, and must be seen and revoked. */
  readonly payload: Record<string, unknown>;
  readonly createdAt: Date;
  readonly expiresAt?: Date;
  /** When its client last obtained tokens. */
  readonly lastUsedAt: Date;
}

export interface AuthorizationServerRecords {
  /**
   * @param requested for a service account's grant: the connections it requests, which its owner then sees
   * @param members for the same: the members of aggregated routes that it may use
   */
  upsert(
    record: Omit<AuthorizationServerRecord, "consumedAt">,
    audit?: AuditEvent,
    requested?: RequestedDelegations,
    members?: readonly GrantedMember[],
  ): Promise<void>;
  /** `upsert` of a service account's grant. False: the account has one, and nothing is stored. */
  createAlone(...given: Parameters<AuthorizationServerRecords["upsert"]>): Promise<boolean>;
  /**
   * `upsert` of a record that depends on a person's sign-in (a grant) or on a grant (its codes and tokens). False: the sign-in or
   * grant has ended, and nothing is stored. If it ends concurrently, this record ends with it.
   * @param members for a grant of an aggregated route: the members that it may use
   */
  upsertIfAllowed(
    record: Omit<AuthorizationServerRecord, "consumedAt">,
    audit?: AuditEvent,
    members?: readonly GrantedMember[],
  ): Promise<boolean>;
  find(model: string, id: string): Promise<AuthorizationServerRecord | undefined>;
  findByUid(model: string, uid: string): Promise<AuthorizationServerRecord | undefined>;
  findByUserCode(model: string, userCode: string): Promise<AuthorizationServerRecord | undefined>;
  /** One conditional update; false for the loser of a race. */
  consume(model: string, id: string): Promise<boolean>;
  /**
   * Consumes a refresh token and stores its successor, in one transaction. False for the loser of a race: nothing is stored then.
   * @param repeatableFor seconds for which `successorOf` returns the successor, which is stored encrypted until then; 0: never
   */
  rotateRefreshToken(
    usedId: string,
    successor: Omit<AuthorizationServerRecord, "model" | "consumedAt">,
    repeatableFor: number,
  ): Promise<boolean>;
  /**
   * The id of the refresh token that replaced this one, while the rotation may be repeated: the successor and its grant are live, and
   * it has not been used.
   * @param audit written if there is a successor, which is about to be issued again
   */
  successorOf(usedId: string, audit?: AuditEvent): Promise<string | undefined>;
  /** Deletes the link from a used refresh token to its successor. */
  forgetSuccessor(usedId: string): Promise<void>;
  destroy(model: string, id: string): Promise<void>;
  /** Deletes a grant with all its records, and notifies every replica. */
  revokeGrant(grantId: string, audit: AuditEvent): Promise<boolean>;
  /** Whether the grant exists and has not expired. */
  grantIsLive(grantId: string): Promise<boolean>;
  /** Whether there is a live grant for this client. */
  clientHasGrant(clientId: string): Promise<boolean>;
  /** A user's grants, oldest first. */
  grants(filter: { readonly userId: string; readonly clientId?: string }): Promise<GrantSummary[]>;
  /**
   * Grants in pages, by user: constant memory, however many there are.
   * @param after begins after this grant, in that order
   */
  grantPages(
    filter: { readonly userId?: string; readonly clientId?: string; readonly grantId?: string },
    after?: Pick<GrantSummary, "userId" | "grantId">,
  ): AsyncIterable<readonly GrantSummary[]>;
  /**
   * Grants that have records, tokens among them, even if the row of the grant is gone or was changed in the database.
   * @param filter at least one of these
   */
  grantsOfRecords(
    filter: Partial<Pick<GrantSummary, "userId" | "clientId" | "grantId">>,
  ): Promise<readonly Pick<GrantSummary, "userId" | "clientId" | "grantId">[]>;
}
