import { sql } from "kysely";
import type { ConnectionKey } from "../model/connection.ts";
import type { AuditEvent } from "./audit-events.ts";
import type { Database } from "./database.ts";
import type { DisconnectScope } from "./disconnects.ts";
import type { RequiredScopes, RequiredScopesTable } from "./required-scopes.ts";

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

/** A use of a connection, with its audit event if it is the first use of a token. */
export type TokenUse = ConnectionKey & { readonly audit?: AuditEvent };

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
export interface PersonState {
  /** As returned by `UpstreamTokens.disconnects`. */
  readonly disconnects: readonly number[];
  /** Whether the person had a sign-in record. */
  readonly signedIn: boolean;
}

/** The state before a token was obtained: a later disconnect, reconnect or sign-out takes precedence over storing the token. */
export interface PutBasis extends PersonState {
  /** Of the connection; absent: there was none; "any": the last write wins. */
  readonly version?: number | "any";
}

/** A connection without its tokens. */
export type ConnectionSummary = ConnectionKey &
  Pick<UpstreamToken, "expiresAt" | "connectedAt" | "updatedAt"> & { readonly refreshable: boolean };

export interface StoredUpstreamTokens extends RequiredScopesTable {
  find(key: ConnectionKey): Promise<UpstreamToken | undefined>;
  /** The same with the connection's required scopes, in one round trip. */
  findWithRequiredScopes(
    key: ConnectionKey,
  ): Promise<{ readonly token?: UpstreamToken; readonly requiredScopes?: RequiredScopes }>;
  /** Stores the token of a consent, replaces any existing one, and clears the required scopes. Returns the new version. */
  put(token: NewUpstreamToken, audit: AuditEvent): Promise<number>;
  /** The same, but returns undefined if something has changed since `basis`. */
  put(token: NewUpstreamToken, audit: AuditEvent, basis: PutBasis | undefined): Promise<number | undefined>;
  /** This person's latest disconnects of the connection and of its whole route: a number that was not there before is a new one. */
  disconnects(key: ConnectionKey): Promise<readonly number[]>;
  /**
   * Takes the refresh lease of exactly this version, and returns the person's disconnects before it (as `disconnects`); undefined:
   * another owner holds it, or the version is gone. An owner may renew its lease. `until` is converted from this replica's clock to the database's, so that a replica with a wrong clock does not steal a
   * lease.
   * @param mayTakeOver whether an expired lease may be taken (true)
   */
  takeLease(
    key: ConnectionKey,
    version: number,
    owner: string,
    until: Date,
    mayTakeOver?: boolean,
  ): Promise<readonly number[] | undefined>;
  releaseLease(key: ConnectionKey, version: number, owner: string): Promise<void>;
  /** Counts a refresh that was rejected without a reason, and releases the lease. Undefined: the lease or the version is gone. */
  recordRejection(
    key: ConnectionKey,
    version: number,
    owner: string,
    at: Date,
  ): Promise<RefreshRejections | undefined>;
  /** Writes a refreshed token if version and lease owner still match; undefined if they do not. */
  replace(
    token: NewUpstreamToken,
    version: number,
    owner: string,
    audit: AuditEvent,
  ): Promise<Pick<UpstreamToken, "version" | "updatedAt"> | undefined>;
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
  /** Records that these connections were used now, without new versions or notifications. */
  recordUses(uses: readonly TokenUse[]): Promise<void>;
  /**
   * Connections that belong to no route for `graceSeconds`, for every replica that called this in the meantime: a replica that still
   * has the route restarts the time.
   * @param routes the routes of this replica; connections below them also belong to them
   */
  orphans(
    routes: readonly Pick<ConnectionKey, "routeId" | "upstream">[],
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

const table = "upstream_token";
const now = sql<Date>`now()`;

/** Queries over many connections, for operators, the background refresh and the cleanup of orphans. Nothing is decrypted. */
export function upstreamTokenQueries(
  database: Database,
): Pick<StoredUpstreamTokens, "list" | "orphans" | "dueForRefresh"> {
  const { clock } = database;
  return {
    async list({ userId, routeId }) {
      const rows = await database.read("upstream_token.list_all", (db) => {
        let query = db
          .selectFrom(table)
          .select([
            "user_id",
            "route_id",
            "upstream",
            "expires_at",
            "refreshable",
            "connected_at",
            "updated_at",
          ]);
        if (userId !== undefined) query = query.where("user_id", "=", userId);
        if (routeId !== undefined) query = query.where("route_id", "=", routeId);
        return query.orderBy("user_id").orderBy("route_id").execute();
      });
      return rows.map((row) => ({
        userId: row.user_id,
        routeId: row.route_id,
        upstream: row.upstream,
        ...(row.expires_at && { expiresAt: clock.fromDatabase(row.expires_at) }),
        refreshable: row.refreshable,
        connectedAt: clock.fromDatabase(row.connected_at),
        updatedAt: clock.fromDatabase(row.updated_at),
      }));
    },

    async orphans(routes, graceSeconds, limit) {
      const rows = await database.write("upstream_token.orphans", async (tx) => {
        const known = sql<boolean>`exists (
          select from jsonb_array_elements(${JSON.stringify(routes)}::jsonb) as route
          where route->>'routeId' = route_id
            and (route->>'upstream' = upstream or starts_with(upstream, rtrim(route->>'upstream', '/') || '/')))`;
        await tx
          .updateTable(table)
          .set({ orphaned_at: null })
          .where("orphaned_at", "is not", null)
          .where(known)
          .execute();
        await tx
          .updateTable(table)
          .set({ orphaned_at: now })
          .where("orphaned_at", "is", null)
          .where((e) => e.not(known))
          .execute();
        return tx
          .selectFrom(table)
          .select(["user_id", "route_id", "upstream"])
          .where("orphaned_at", "<=", sql<Date>`now() - ${graceSeconds} * interval '1 second'`)
          .limit(limit)
          .execute();
      });
      return rows.map((row) => ({ userId: row.user_id, routeId: row.route_id, upstream: row.upstream }));
    },

    async dueForRefresh(before, limit, lastPart = 1) {
      const rows = await database.read("upstream_token.due_for_refresh", (db) =>
        db
          .selectFrom(table)
          .select(["user_id", "route_id", "upstream", "version"])
          .where("refreshable", "=", true)
          .where("expires_at", "<", clock.toDatabase(before))
          .where(sql<boolean>`expires_at - ${lastPart}::float8 * (expires_at - updated_at) <= now()`)
          .where((e) => e.or([e("lease_until", "is", null), e("lease_until", "<=", now)]))
          .where((e) => e.or([e("refresh_expires_at", "is", null), e("refresh_expires_at", ">", now)]))
          // Valid tokens first, by expiry; then expired ones, newest first, so that old ones do not starve the others.
          .orderBy(sql`expires_at < now()`)
          .orderBy(sql`abs(extract(epoch from expires_at - now()))`)
          .limit(limit)
          .execute(),
      );
      return rows.map((row) => ({
        userId: row.user_id,
        routeId: row.route_id,
        upstream: row.upstream,
        version: row.version,
      }));
    },
  };
}
