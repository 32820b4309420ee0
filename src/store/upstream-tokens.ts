import { type Kysely, type Selectable, sql } from "kysely";
import type { ConnectionKey } from "../model/connection.ts";
import type { AuditEvent } from "./audit-events.ts";
import type { Database } from "./database.ts";
import type { DisconnectScope } from "./disconnects.ts";
import type { DueTokens } from "./due-tokens.ts";
import { pageSize, pagesOf } from "./pages.ts";
import type { RequiredScopes, RequiredScopesTable } from "./required-scopes.ts";
import type { Tables, UpstreamTokenTable } from "./tables.ts";

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

export interface StoredUpstreamTokens extends RequiredScopesTable, DueTokens {
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
  /** A user's connections, without decrypting anything. */
  list(filter: { readonly userId: string; readonly routeId?: string }): Promise<ConnectionSummary[]>;
  /** Connections in pages, by user and route, or those of one route by upstream and user: constant memory, however many there are. */
  pages(filter: {
    readonly userId?: string;
    readonly routeId?: string;
    /** Those after this one. */
    readonly after?: ConnectionKey;
  }): AsyncIterable<readonly ConnectionSummary[]>;
  /** Records that these connections were used now, and are not dormant, without new versions or notifications. */
  recordUses(uses: readonly TokenUse[]): Promise<void>;
}

const table = "upstream_token";
const summaryColumns = [
  "user_id",
  "route_id",
  "upstream",
  "expires_at",
  "refreshable",
  "connected_at",
  "updated_at",
] as const;
type SummaryRow = Pick<Selectable<UpstreamTokenTable>, (typeof summaryColumns)[number]>;

/** Orders of connections, each that of an index: the primary key's, and that of migration 0016, in byte order. */
const byUser = [sql.ref("user_id"), sql.ref("route_id"), sql.ref("upstream")];
const routeInBytes = sql<string>`route_id collate "C"`;
const byRoute = [routeInBytes, sql`upstream collate "C"`, sql.ref("user_id")];

/** Queries over many connections, for operators. Nothing is decrypted. */
export function upstreamTokenQueries(database: Database): Pick<StoredUpstreamTokens, "list" | "pages"> {
  const { clock } = database;

  function select(db: Kysely<Tables>, { userId, routeId }: { userId?: string; routeId?: string }) {
    let query = db.selectFrom(table).select(summaryColumns);
    if (userId !== undefined) query = query.where("user_id", "=", userId);
    if (routeId !== undefined) query = query.where("route_id", "=", routeId);
    return query;
  }

  function summary(row: SummaryRow): ConnectionSummary {
    return {
      userId: row.user_id,
      routeId: row.route_id,
      upstream: row.upstream,
      ...(row.expires_at && { expiresAt: clock.fromDatabase(row.expires_at) }),
      refreshable: row.refreshable,
      connectedAt: clock.fromDatabase(row.connected_at),
      updatedAt: clock.fromDatabase(row.updated_at),
    };
  }

  return {
    async list(filter) {
      const rows = await database.read("upstream_token.list_all", (db) =>
        select(db, filter).orderBy("user_id").orderBy("route_id").execute(),
      );
      return rows.map(summary);
    },

    async *pages(filter) {
      const { userId, routeId, after: first } = filter;
      const ofRoute = userId === undefined && routeId !== undefined;
      const order = ofRoute ? byRoute : byUser;
      type Key = Pick<SummaryRow, "user_id" | "route_id" | "upstream">;
      const read = (after: Key | undefined) =>
        database.read("upstream_token.page", (db) => {
          let query = ofRoute ? select(db, {}).where(routeInBytes, "=", routeId) : select(db, filter);
          if (after) {
            const { user_id, route_id, upstream } = after;
            const values = ofRoute ? [route_id, upstream, user_id] : [user_id, route_id, upstream];
            query = query.where(sql<boolean>`(${sql.join(order)}) > (${sql.join(values)})`);
          }
          for (const column of order) query = query.orderBy(column);
          return query.limit(pageSize).execute();
        });
      const start = first && { user_id: first.userId, route_id: first.routeId, upstream: first.upstream };
      for await (const rows of pagesOf<SummaryRow, Key>(read, start)) yield rows.map(summary);
    },
  };
}
