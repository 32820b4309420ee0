import type { ConnectionKey } from "../model/connection.ts";
import type { AuditEvent } from "./audit-events.ts";
import type { DisconnectScope } from "./disconnects.ts";
import type { RequiredScopesTable } from "./upstream-demands.ts";

/** A decrypted TI with all that is needed to use, refresh and revoke it. */
export interface UpstreamToken extends ConnectionKey {
  /** Grows with every write; drawn from one sequence, so never reused, not even after a disconnect and a new consent. */
  readonly version: number;
  /** Issuer that gave it (or the token endpoint's origin where an explicit server has no issuer). */
  readonly issuer: string;
  readonly tokenEndpoint: string;
  readonly revocationEndpoint?: string;
  readonly clientId: string;
  readonly redirectUri?: string;
  readonly accessToken: string;
  readonly tokenType: "Bearer" | "DPoP";
  /** Absent: used until the upstream refuses it. */
  readonly expiresAt?: Date;
  readonly refreshToken?: string;
  readonly refreshExpiresAt?: Date;
  readonly scopes: readonly string[];
  /** RFC 8707 resource it was asked for. */
  readonly resource?: string;
  /** Private JWK a DPoP-bound token is bound to. */
  readonly dpopKey?: JsonWebKey;
  /** When the user consented; a refresh keeps it. */
  readonly connectedAt: Date;
  readonly updatedAt: Date;
  /** To a few minutes; absent: not since it was made. */
  readonly lastUsedAt?: Date;
  /** Refreshes of this version that the server refused without saying why; absent: none. */
  readonly rejections?: RefreshRejections;
}

export interface RefreshRejections {
  readonly count: number;
  /** The first one. */
  readonly since: Date;
}

export type NewUpstreamToken = Omit<
  UpstreamToken,
  "version" | "connectedAt" | "updatedAt" | "lastUsedAt" | "refusals"
>;

/** What was true of a person when they asked for a connection. */
export interface Standing {
  /** As `UpstreamTokens.disconnects`. */
  readonly disconnects: readonly number[];
  /** Whether the company's provider had signed the person in. */
  readonly signedIn: boolean;
}

/** What was true before a token was obtained: who has disconnected, connected again or gone since keeps to that. */
export interface PutBasis extends Standing {
  /** Of the connection; absent: there was none; "any": whoever stores last wins. */
  readonly version?: number | "any";
}

/** A connection without its tokens. */
export type ConnectionSummary = ConnectionKey &
  Pick<UpstreamToken, "expiresAt" | "connectedAt" | "updatedAt"> & { readonly refreshable: boolean };

export interface StoredUpstreamTokens extends RequiredScopesTable {
  find(key: ConnectionKey): Promise<UpstreamToken | undefined>;
  /** Stores what a consent brought, over whatever was there; clears the demand. Returns the new version. */
  put(token: NewUpstreamToken, audit: AuditEvent): Promise<number>;
  /** The same, unless something has changed since `basis`: undefined. */
  put(token: NewUpstreamToken, audit: AuditEvent, basis: PutBasis | undefined): Promise<number | undefined>;
  /** The latest disconnects of the connection and of its whole route by this person: a number that was not there is a new one. */
  disconnects(key: ConnectionKey): Promise<readonly number[]>;
  /**
   * Takes the refresh lease of exactly this version; false: somebody else holds it, or the version is gone. An owner may take its
   * own again. `until` is read as a distance from this replica's clock and kept on the database's, so that a replica whose clock
   * is off steals nothing.
   * @param mayTakeOver whether a lease that has run out is free to take (true)
   */
  takeLease(
    key: ConnectionKey,
    version: number,
    owner: string,
    until: Date,
    mayTakeOver?: boolean,
  ): Promise<boolean>;
  releaseLease(key: ConnectionKey, version: number, owner: string): Promise<void>;
  /** Counts a refresh that was refused without a reason, and releases the lease. Undefined: lease or version were lost. */
  recordRejection(
    key: ConnectionKey,
    version: number,
    owner: string,
    at: Date,
  ): Promise<RefreshRejections | undefined>;
  /** Writes a refreshed token only if version and lease owner still match. Returns the new version, undefined if lost. */
  replace(
    token: NewUpstreamToken,
    version: number,
    owner: string,
    audit: AuditEvent,
  ): Promise<number | undefined>;
  /** Deletes exactly this version (a refusal); false: another has been stored since. */
  deleteVersion(key: ConnectionKey, version: number, audit: AuditEvent): Promise<boolean>;
  /**
   * Deletes the connection whatever its version; returns what was there, for revocation upstream.
   * @param disconnected what its person, or an operator, means by it: tokens that were asked for before are not stored any more; absent:
   * nobody did it
   */
  delete(
    key: ConnectionKey,
    audit: AuditEvent,
    disconnected?: DisconnectScope,
  ): Promise<UpstreamToken | undefined>;
  listForUser(userId: string): Promise<UpstreamToken[]>;
  /** What an operator may see of connections: nothing is decrypted. */
  list(filter: { readonly userId?: string; readonly routeId?: string }): Promise<ConnectionSummary[]>;
  /** Remembers that the connection was used just now. Neither a new version nor a change that others hear of. */
  recordUse(key: ConnectionKey): Promise<void>;
  /**
   * Connections to places, or below them, that no route has had for `graceSeconds`, as seen by every replica that asked meanwhile: one that
   * still knows the route starts the time anew.
   */
  orphans(
    places: readonly Pick<ConnectionKey, "routeId" | "upstream">[],
    graceSeconds: number,
    limit: number,
  ): Promise<ConnectionKey[]>;
  /**
   * Connections with a refresh token whose access token expires before `before` and that nobody leases.
   * @param lastPart of its life that an access token must have reached (1: any), so that short ones are not refreshed all the time
   */
  dueForRefresh(
    before: Date,
    limit: number,
    lastPart?: number,
  ): Promise<(ConnectionKey & { version: number })[]>;
}
