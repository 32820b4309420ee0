import type { ConnectionKey } from "../model/connection.ts";
import type { AuditEvent } from "./audit-events.ts";
import type { DisconnectScope } from "./disconnects.ts";
import type { RequiredScopesTable } from "./upstream-demands.ts";

/** A decrypted upstream token with everything required to use, refresh and revoke it. */
export interface UpstreamToken extends ConnectionKey {
  /** Increases with every write; taken from one sequence, so never reused, not even after a disconnect and a new consent. */
  readonly version: number;
  /** The issuer (or the token endpoint's origin if a configured server has no issuer). */
  readonly issuer: string;
  readonly tokenEndpoint: string;
  readonly revocationEndpoint?: string;
  readonly clientId: string;
  readonly redirectUri?: string;
  readonly accessToken: string;
  readonly tokenType: "Bearer" | "DPoP";
  /** Absent: used until the upstream rejects it. */
  readonly expiresAt?: Date;
  readonly refreshToken?: string;
  readonly refreshExpiresAt?: Date;
  readonly scopes: readonly string[];
  /** RFC 8707 resource that it was requested for. */
  readonly resource?: string;
  /** Private JWK of a DPoP-bound token. */
  readonly dpopKey?: JsonWebKey;
  /** When the user consented; a refresh keeps it. */
  readonly connectedAt: Date;
  readonly updatedAt: Date;
  /** Accurate to a few minutes; absent: never used. */
  readonly lastUsedAt?: Date;
  /** Refreshes of this version that the server rejected without a reason; absent: none. */
  readonly rejections?: RefreshRejections;
}

export interface RefreshRejections {
  readonly count: number;
  /** Time of the first one. */
  readonly since: Date;
}

export type NewUpstreamToken = Omit<
  UpstreamToken,
  "version" | "connectedAt" | "updatedAt" | "lastUsedAt" | "rejections"
>;

/** A person's state when they requested a connection. */
export interface Standing {
  /** As returned by `UpstreamTokens.disconnects`. */
  readonly disconnects: readonly number[];
  /** Whether the person had a sign-in record. */
  readonly signedIn: boolean;
}

/** The state before a token was obtained: a later disconnect, reconnect or sign-out takes precedence over storing the token. */
export interface PutBasis extends Standing {
  /** Of the connection; absent: there was none; "any": the last write wins. */
  readonly version?: number | "any";
}

/** A connection without its tokens. */
export type ConnectionSummary = ConnectionKey &
  Pick<UpstreamToken, "expiresAt" | "connectedAt" | "updatedAt"> & { readonly refreshable: boolean };

export interface StoredUpstreamTokens extends RequiredScopesTable {
  find(key: ConnectionKey): Promise<UpstreamToken | undefined>;
  /** Stores the token of a consent, replaces any existing one, and clears the required scopes. Returns the new version. */
  put(token: NewUpstreamToken, audit: AuditEvent): Promise<number>;
  /** The same, but returns undefined if something has changed since `basis`. */
  put(token: NewUpstreamToken, audit: AuditEvent, basis: PutBasis | undefined): Promise<number | undefined>;
  /** This person's latest disconnects of the connection and of its whole route: a number that was not there before is a new one. */
  disconnects(key: ConnectionKey): Promise<readonly number[]>;
  /**
   * Takes the refresh lease of exactly this version; false: another owner holds it, or the version is gone. An owner may renew its
   * lease. `until` is converted from this replica's clock to the database's, so that a replica with a wrong clock does not steal a
   * lease.
   * @param mayTakeOver whether an expired lease may be taken (true)
   */
  takeLease(
    key: ConnectionKey,
    version: number,
    owner: string,
    until: Date,
    mayTakeOver?: boolean,
  ): Promise<boolean>;
  releaseLease(key: ConnectionKey, version: number, owner: string): Promise<void>;
  /** Counts a refresh that was rejected without a reason, and releases the lease. Undefined: the lease or the version is gone. */
  recordRejection(
    key: ConnectionKey,
    version: number,
    owner: string,
    at: Date,
  ): Promise<RefreshRejections | undefined>;
  /** Writes a refreshed token if version and lease owner still match. Returns the new version; undefined if they do not match. */
  replace(
    token: NewUpstreamToken,
    version: number,
    owner: string,
    audit: AuditEvent,
  ): Promise<number | undefined>;
  /** Deletes exactly this version (after a rejection); false: another one has been stored since. */
  deleteVersion(key: ConnectionKey, version: number, audit: AuditEvent): Promise<boolean>;
  /**
   * Deletes the connection, whatever its version; returns the deleted token, for revocation upstream.
   * @param disconnected scope of a disconnect by the person or an operator: tokens that were requested before are no longer stored;
   * absent: not a disconnect
   */
  delete(
    key: ConnectionKey,
    audit: AuditEvent,
    disconnected?: DisconnectScope,
  ): Promise<UpstreamToken | undefined>;
  listForUser(userId: string): Promise<UpstreamToken[]>;
  /** Connections as an operator may see them, without decrypting anything. */
  list(filter: { readonly userId?: string; readonly routeId?: string }): Promise<ConnectionSummary[]>;
  /** Records that the connection was used now, without a new version or a notification. */
  recordUse(key: ConnectionKey): Promise<void>;
  /**
   * Connections that belong to no route for `graceSeconds`, for every replica that called this in the meantime: a replica that still
   * has the route restarts the time.
   * @param places the routes of this replica; connections below them also belong to them
   */
  orphans(
    places: readonly Pick<ConnectionKey, "routeId" | "upstream">[],
    graceSeconds: number,
    limit: number,
  ): Promise<ConnectionKey[]>;
  /**
   * Connections with a refresh token whose access token expires before `before` and that are not leased.
   * @param lastPart only tokens in this last fraction of their lifetime (1: any), so that short-lived ones are not refreshed constantly
   */
  dueForRefresh(
    before: Date,
    limit: number,
    lastPart?: number,
  ): Promise<(ConnectionKey & { version: number })[]>;
}
