import type { AuditEvent, AuditFilter, RecordedAuditEvent } from "./audit-events.ts";
import type { AuthorizationServerRecords } from "./authorization-server-records.ts";
import type { BrowserSessions } from "./browser-sessions.ts";
import type { ClientRegistrations } from "./client-registrations.ts";
import type { Delegations } from "./delegations.ts";
import type { EndedAccess } from "./end-access.ts";
import type { ClientIssuers, RouteIssuers } from "./issuers.ts";
import type { Notifications } from "./notifications/notifications.ts";
import type { PendingAuthorizations } from "./pending-authorizations.ts";
import type { SignInSessions } from "./sign-in-sessions.ts";
import type { SigningKey, SigningKeys } from "./signing-keys.ts";
import type { StoredRoutes } from "./stored-routes.ts";
import type { StoredUpstreamTokens } from "./upstream-tokens.ts";
import type { UsedValues } from "./used-values.ts";

export interface Store {
  readonly upstreamTokens: StoredUpstreamTokens;
  readonly pendingAuthorizations: PendingAuthorizations;
  readonly clientRegistrations: ClientRegistrations;
  readonly clientIssuers: ClientIssuers;
  readonly routeIssuers: RouteIssuers;
  readonly authorizationServerRecords: AuthorizationServerRecords;
  readonly delegations: Delegations;
  readonly browserSessions: BrowserSessions;
  readonly signInSessions: SignInSessions;
  readonly signingKeys: SigningKeys;
  readonly storedRoutes: StoredRoutes;
  readonly usedValues: UsedValues;
  readonly notifications: Notifications;
  /** Appends an audit event that stands alone (a refusal, a first use). */
  audit(event: AuditEvent): Promise<void>;
  /** Oldest first. */
  auditEvents(filter: AuditFilter): Promise<RecordedAuditEvent[]>;
  /** Resolves when the database answers. */
  ping(): Promise<void>;
  /** Removes expired rows of every kind; returns how many, per table. */
  removeExpired(now: Date): Promise<Record<string, number>>;
  /**
   * Gives every row its MAC and rejects rows without one from now on: what `removeExpired` does by itself an hour after the
   * upgrade from a version without MACs. Does nothing where rows are bound already.
   */
  bindRows(): Promise<void>;
  /**
   * Ends what anybody has been given until now, told to every replica: external tokens, refresh tokens, grants, service accounts,
   * delegations, browser sessions, sign-ins and flows under way. Upstream tokens stay. One transaction.
   * @param key the key that signs external tokens from now on; older ones end
   */
  endAccess(key: SigningKey, reason: string): Promise<EndedAccess>;
  /** Rewrites every ciphertext whose key is not the newest, without downtime; returns how many, per table (`rotate-keys`). */
  rotateEncryptionKeys(): Promise<Record<string, number>>;
  close(): Promise<void>;
}
