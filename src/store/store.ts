import type { AdminSessions } from "./admin-sessions.ts";
import type { AggregateSessions } from "./aggregate-sessions.ts";
import type { AuditTrail } from "./audit-batches.ts";
import type { AuditEvent, AuditFilter, RecordedAuditEvent } from "./audit-events.ts";
import type { AuthorizationServerRecords } from "./authorization-server-records.ts";
import type { BackgroundWork } from "./background-work.ts";
import type { BrowserSessions } from "./browser-sessions.ts";
import type { ClientRegistrations } from "./client-registrations.ts";
import type { Delegations } from "./delegations.ts";
import type { ElicitationSessions } from "./elicitation-sessions.ts";
import type { RotationOptions } from "./encryption/rotate.ts";
import type { EndedAccess } from "./end-access.ts";
import type { EndedPerson, EndOfPerson } from "./end-access-of-person.ts";
import type { StoredGrantedMembers } from "./granted-members.ts";
import type { Indexes } from "./indexes.ts";
import type { ClientIssuers, RouteIssuers } from "./issuers.ts";
import type { Notifications } from "./notifications/notifications.ts";
import type { UsedValues } from "./one-time-values.ts";
import type { OrphanedUpstreams } from "./orphaned-upstreams.ts";
import type { PendingAuthorizations } from "./pending-authorizations.ts";
import type { ReplicaMessages } from "./replica-messages.ts";
import type { Replicas } from "./replicas.ts";
import type { SignInSessions } from "./sign-in-sessions.ts";
import type { SigningKey, SigningKeys } from "./signing-keys.ts";
import type { StoredRoutes } from "./stored-routes.ts";
import type { StoredUpstreamTokens } from "./upstream-tokens.ts";

export interface Store {
  readonly upstreamTokens: StoredUpstreamTokens;
  readonly orphanedUpstreams: OrphanedUpstreams;
  readonly pendingAuthorizations: PendingAuthorizations;
  readonly clientRegistrations: ClientRegistrations;
  readonly clientIssuers: ClientIssuers;
  readonly routeIssuers: RouteIssuers;
  readonly authorizationServerRecords: AuthorizationServerRecords;
  readonly delegations: Delegations;
  readonly grantedMembers: StoredGrantedMembers;
  readonly browserSessions: BrowserSessions;
  readonly signInSessions: SignInSessions;
  readonly adminSessions: AdminSessions;
  readonly replicas: Replicas;
  readonly signingKeys: SigningKeys;
  readonly storedRoutes: StoredRoutes;
  readonly aggregateSessions: AggregateSessions;
  readonly replicaMessages: ReplicaMessages;
  readonly usedValues: UsedValues;
  readonly elicitationSessions: ElicitationSessions;
  readonly notifications: Notifications;
  readonly backgroundWork: BackgroundWork;
  readonly indexes: Indexes;
  /** Appends an audit event without another change (a denial, a first use). */
  audit(event: AuditEvent): Promise<void>;
  /** What makes the audit trail verifiable. */
  readonly auditTrail: AuditTrail;
  /** Oldest first. */
  auditEvents(filter: AuditFilter): Promise<RecordedAuditEvent[]>;
  /** Resolves when the database answers. */
  ping(): Promise<void>;
  /** Removes expired rows of every kind; returns their number per table. */
  removeExpired(now: Date): Promise<Record<string, number>>;
  /**
   * Adds a MAC to every row, and from then on rejects rows without one. `removeExpired` does this automatically one hour after an
   * upgrade from a version without MACs. Does nothing if rows already have MACs.
   */
  bindRows(): Promise<void>;
  /**
   * Ends all access in one transaction and notifies every replica: external tokens, refresh tokens, grants, service accounts,
   * delegations, browser sessions, sign-ins, pending authorizations and sessions of aggregated routes. Upstream tokens stay.
   * @param key the key that signs external tokens from now on; older keys end
   * @param actor of the audit events
   */
  endAccess(key: SigningKey, reason: string, actor?: string): Promise<EndedAccess>;
  /**
   * Ends one person's sign-in record, browser sessions, and grants with all their tokens, and notifies every replica. Connections to
   * upstreams stay. If it fails, it can be repeated: the sign-in record ends last, together with the last grants.
   * @param audit the event about the person; each grant has one of its own, with its actor, reason and request id
   * @returns what this call has ended: someone else may have ended the rest
   */
  endAccessOfPerson(userId: string, audit: EndOfPerson): Promise<EndedPerson>;
  /**
   * Re-encrypts all rows of older keys with the newest one, and replaces the MAC key, without downtime (`rotate-keys`). Continues an
   * interrupted rotation.
   * @returns number of re-encrypted rows, per table
   * @throws RotationUnfinished
   */
  rotateEncryptionKeys(options?: RotationOptions): Promise<Record<string, number>>;
  close(): Promise<void>;
}
