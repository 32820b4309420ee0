import type { ConnectionKey } from "../model/connection.ts";
import type { AuditEvent } from "./audit-event.ts";
import type { DisconnectScope } from "./disconnects.ts";

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
  /** Absent: used until the upstream refuses it (F4.10). */
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
  readonly refusals?: RefreshRefusals;
}
export interface RefreshRefusals {
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

/** What the upstream asked for and the connection lacks; outlives the token row (F3.6, F4.6). */
export interface UpstreamDemand {
  readonly scopes: readonly string[];
  /** `resource_metadata` of the upstream's challenge. */
  readonly resourceMetadata?: string;
  readonly demandedAt: Date;
}

export interface UpstreamTokens {
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
  noteRefusal(
    key: ConnectionKey,
    version: number,
    owner: string,
    at: Date,
  ): Promise<RefreshRefusals | undefined>;
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
  noteUse(key: ConnectionKey): Promise<void>;
  /**
   * Connections to places, or below them, that no route has had for `graceSeconds`, as seen by every replica that asked meanwhile: one that
   * still knows the route starts the time anew (F8.10).
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
  /** Remembers what an upstream asked for beyond the token it was shown; scopes are merged with an earlier demand. */
  demand(key: ConnectionKey, demand: UpstreamDemand): Promise<void>;
  findDemand(key: ConnectionKey): Promise<UpstreamDemand | undefined>;
  clearDemand(key: ConnectionKey): Promise<void>;
}

/** `sign_in`: at the company's provider. `handover`: session code from the issuer's host to a route's. `upstream`: a consent. */
export type PendingKind = "sign_in" | "handover" | "connect" | "upstream";
export interface PendingAuthorization<Payload> {
  readonly kind: PendingKind;
  /** Secret handle; the table keeps only its SHA-256. */
  readonly state: string;
  readonly userId?: string;
  readonly expiresAt: Date;
  /** Encrypted at rest. JSON. */
  readonly payload: Payload;
}
export interface PendingAuthorizations {
  /** @param keepPerUser of one kind; older ones give way. Resolves with how many did. */
  create<P>(row: PendingAuthorization<P>, keepPerUser?: number): Promise<number>;
  /** Reads without using up. */
  find<P>(kind: PendingKind, state: string): Promise<PendingAuthorization<P> | undefined>;
  /** Single use: one conditional delete, so of two callers one gets the row. Expired rows are as good as absent. */
  consume<P>(kind: PendingKind, state: string): Promise<PendingAuthorization<P> | undefined>;
}

/** Credentials an authorization server gave us (RFC 7591), never offered to another issuer. */
export interface ClientRegistration {
  readonly issuer: string;
  readonly redirectUri: string;
  readonly clientId: string;
  readonly clientSecret?: string;
  readonly secretExpiresAt?: Date;
  readonly authMethod: string;
  readonly metadata: Record<string, unknown>;
}
export interface ClientRegistrations {
  /** @param alsoEnded also one whose secret has ended: it may be renewed, or the server's clock be behind; default false */
  find(issuer: string, redirectUri: string, alsoEnded?: boolean): Promise<ClientRegistration | undefined>;
  /**
   * Runs `register` at most once per (issuer, redirect URI) across replicas: waits for, and returns, a registration under way
   * elsewhere. No transaction is held open meanwhile.
   *
   * @param insteadOf a registration that is as good as none, but stays until another one is made. Some servers answer with the same
   * client id: what tells the two apart is `registeredAt` of `metadata`, as the caller has seen it.
   */
  getOrRegister(
    issuer: string,
    redirectUri: string,
    register: () => Promise<ClientRegistration>,
    insteadOf?: { readonly clientId: string; readonly registeredAt?: number },
  ): Promise<ClientRegistration>;
  /**
   * Runs `renew` on this client's registration under the same lease, and stores what comes of it. Undefined: another replica is at
   * it, or the client is gone.
   */
  renew(
    issuer: string,
    redirectUri: string,
    clientId: string,
    renew: (current: ClientRegistration) => Promise<ClientRegistration>,
  ): Promise<ClientRegistration | undefined>;
  /** Changes what is known of exactly this client, unless it changes at the same time. */
  update(
    issuer: string,
    redirectUri: string,
    clientId: string,
    change: (current: ClientRegistration) => ClientRegistration,
  ): Promise<void>;
  /** Forgets exactly this client id (the server has forgotten it). */
  delete(issuer: string, redirectUri: string, clientId: string): Promise<void>;
}

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
  /** One conditional update; false for the loser of a race (F3.7). */
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

/** A service account that may ask for the use of its owner's connection, and whether it has been given it (F2.4). */
export interface Delegation {
  /** The service account's; ends with it. */
  readonly grantId: string;
  readonly routeId: string;
  /** `service-account/NAME`. */
  readonly account: string;
  readonly ownerId: string;
  /** Where the connection leads that the owner has delegated; absent: none. */
  readonly upstream?: string;
  readonly delegatedAt?: Date;
  readonly expiresAt: Date;
}
/** What an account asks its owner for when its grant is made. */
export type DelegationsAsked = Pick<Delegation, "account" | "ownerId" | "expiresAt"> & {
  readonly routeIds: readonly string[];
};
export interface Delegations {
  /** The owner's consent, told to every replica. False: nobody asks this owner for that, or there is no such connection. */
  give(
    which: Pick<Delegation, "grantId" | "ownerId" | "routeId"> & { readonly upstream: string },
    audit: AuditEvent,
  ): Promise<boolean>;
  /** Takes it back, told to every replica. False: it was not given. */
  end(which: Pick<Delegation, "grantId" | "ownerId" | "routeId">, audit: AuditEvent): Promise<boolean>;
  /** Of a person who has gone; how many there were. Disconnecting ends those of one connection by itself. */
  endAllOf(ownerId: string, reason: string): Promise<number>;
  ofGrant(grantId: string): Promise<Delegation[]>;
  ofOwner(ownerId: string): Promise<Delegation[]>;
  /** Those who have delegated something. */
  owners(): Promise<string[]>;
}

/** A browser's session on one host. The cookie holds `id`; the table its SHA-256. */
export interface BrowserSession {
  readonly id: string;
  readonly host: string;
  readonly userId: string;
  /** `secretName` of the issuer-host session it was handed over from; ends with it. */
  readonly parentName?: string;
  readonly createdAt: Date;
  readonly expiresAt: Date;
}
export interface BrowserSessions {
  /** A session whose parent has ended meanwhile is not created: looking for it finds nothing. */
  create(session: BrowserSession): Promise<void>;
  find(id: string): Promise<BrowserSession | undefined>;
  /** Whether the session of this `secretName` exists and has not expired: tokens minted for it die with it (F5.1). */
  isLive(name: string): Promise<boolean>;
  /** Ends the session, its parent and all handed over from them (sign-out). No session, no audit event. */
  end(id: string, audit?: AuditEvent): Promise<void>;
  endForUser(userId: string, audit?: AuditEvent): Promise<void>;
}

/** What the company's provider said of a person, with its tokens, encrypted. One per person: the newest sign-in. */
export interface SignInSession {
  readonly userId: string;
  readonly providerId: string;
  readonly subject: string;
  readonly sid?: string;
  readonly email?: string;
  readonly name?: string;
  readonly groups: readonly string[];
  readonly claims: Record<string, unknown>;
  readonly idToken?: string;
  readonly accessToken?: string;
  /** Unix seconds, where the provider said. */
  readonly accessTokenExpiresAt?: number;
  readonly refreshToken?: string;
  /** When these tokens were got, Unix ms: `checkedAt`, until a replica that asks for new ones moves that. */
  readonly tokensAt?: number;
  readonly checkedAt: Date;
  /** Written by a version that did not ask whether the e-mail address is verified: due for a recheck. */
  readonly unjudged?: true;
}
export interface SignInSessions {
  find(userId: string): Promise<SignInSession | undefined>;
  /** By the provider's own session id, which its logout tokens name. */
  findBySid(providerId: string, sid: string): Promise<SignInSession | undefined>;
  /** Tells every replica (as a change of the person's browser sessions), since claims decide what a person may do. */
  put(session: SignInSession, audit?: AuditEvent): Promise<void>;
  /**
   * Stores what asking the provider again has brought, if the person's tokens still are those it was asked with. False: the person
   * has signed in since, or is gone. If somebody has moved `checkedAt` back since, because the provider is to be asked once more, it
   * stays there.
   * @param asked the record as it was when the question was claimed
   */
  replace(session: SignInSession, asked: Pick<SignInSession, "tokensAt" | "checkedAt">): Promise<boolean>;
  /** Moves `checkedAt` if it still is `from`: of all replicas that want to ask the provider again, one may. */
  claimCheck(userId: string, from: Date, to: Date): Promise<boolean>;
  /** Of several replicas that delete the same one, the first writes the audit event. */
  delete(userId: string, audit?: AuditEvent): Promise<void>;
}

export type SigningKeyPurpose = "external_token" | "assertion" | "upstream_client" | "check_metadata";
export interface SigningKey {
  readonly kid: string;
  readonly purpose: SigningKeyPurpose;
  /** Private JWK (ES256; of `check_metadata` HS256), encrypted at rest. */
  readonly privateJwk: Record<string, unknown>;
  readonly createdAt: Date;
  /** Signs from then on; published before, so that verifiers know it in time. */
  readonly activeAt: Date;
  /** Published until then. */
  readonly expiresAt?: Date;
}
export interface SigningKeys {
  /** All unexpired, newest `activeAt` first. */
  list(purpose: SigningKeyPurpose): Promise<SigningKey[]>;
  /** The first of a purpose is made once across replicas: returns the winner's keys. */
  ensure(purpose: SigningKeyPurpose, make: () => Promise<SigningKey>): Promise<SigningKey[]>;
  /** Adds a key and lets the older ones of its purpose expire. */
  rotate(key: SigningKey, oldExpireAt: Date, audit: AuditEvent): Promise<void>;
}

/** A route made over the admin API (F7.5). */
export interface StoredRoute {
  readonly id: string;
  /** Host and path prefix; unique. */
  readonly place: string;
  /** As it would stand in the routes file, secrets included; encrypted at rest. */
  readonly entry: Readonly<Record<string, unknown>>;
  /** Grows with every change. */
  readonly version: number;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}
type NewStoredRoute = Pick<StoredRoute, "id" | "place" | "entry">;
export interface StoredRoutes {
  list(): Promise<StoredRoute[]>;
  /** False: the id or the place is taken. */
  create(route: NewStoredRoute, audit: AuditEvent): Promise<boolean>;
  /** Writes only over exactly this version. `changed`: somebody was faster; `duplicate`: the place is taken. */
  replace(
    route: NewStoredRoute,
    version: number,
    audit: AuditEvent,
  ): Promise<"replaced" | "changed" | "duplicate">;
  delete(id: string, audit: AuditEvent): Promise<boolean>;
}

/** Which audit events; all that is given must hold. */
export interface AuditFilter {
  /** Only those with a greater id. */
  readonly after?: number;
  readonly since?: Date;
  readonly until?: Date;
  readonly action?: string;
  readonly userId?: string;
  readonly routeId?: string;
  /** Only events that no slower writer can come in front of any more: an export that goes on `after` misses none. */
  readonly settled?: boolean;
  readonly limit: number;
}
/** As read back; `action` may be one of a newer version. */
export interface RecordedAuditEvent extends Omit<AuditEvent, "action"> {
  readonly id: number;
  readonly at: Date;
  readonly action: string;
}

/** What changed, as told to every replica; payloads carry hashes and ids, never tokens. */
export type Change =
  | { readonly table: "upstream_token"; readonly key: string }
  | { readonly table: "grant"; readonly grantId: string }
  | { readonly table: "browser_session"; readonly userId: string }
  | { readonly table: "signing_key" }
  | { readonly table: "stored_route" }
  | { readonly table: "client_registration"; readonly issuer: string }
  /** The listener was away: whatever is cached may be stale. */
  | { readonly table: "everything" };

export interface Notifications {
  /** Calls `listener` for every change committed anywhere. Returns the way to stop. */
  subscribe(listener: (change: Change) => void): () => void;
  /** True only while the listener's own heartbeat came back within 500 ms; else caches must not be trusted. No I/O. */
  healthy(): boolean;
}

export interface ClientIssuers {
  /**
   * The issuer that this client of the routes file belongs to: `issuer`, if none is known yet.
   * @param named an operator says so: whatever was known before
   */
  keep(
    client: { readonly routeId: string; readonly upstream: string; readonly clientId: string },
    issuer: string,
    named: boolean,
  ): Promise<string>;
}

/** A route whose people have been connected at an authorization server. */
export interface RouteIssuer {
  readonly routeId: string;
  readonly upstream: string;
  /** From before anybody asked whether the server is another route's. */
  readonly accepted: boolean;
}
export interface RouteIssuers {
  /** Who uses this issuer, those first who were first. */
  of(issuer: string): Promise<RouteIssuer[]>;
  /** Remembers that the route uses it; false: that was known. */
  add(place: Pick<RouteIssuer, "routeId" | "upstream">, issuer: string): Promise<boolean>;
  /** For what did not come to be. */
  remove(place: Pick<RouteIssuer, "routeId" | "upstream">, issuer: string): Promise<void>;
}

export interface UsedValues {
  isTaken(kind: "logout_token", value: string): Promise<boolean>;
  /**
   * Whether the value was new, which it is once across replicas: one conditional insert. Remembered until `expiresAt`.
   * @param kind what keeps values of different purposes apart
   */
  take(kind: "logout_token", value: string, expiresAt: Date): Promise<boolean>;
}

/** How many of each were ended. */
export interface EndedAccess {
  /** Service accounts included. */
  readonly grants: number;
  readonly refreshTokens: number;
  /** Given and asked for. */
  readonly delegations: number;
  readonly browserSessions: number;
  /** Whose sign-in was forgotten. */
  readonly people: number;
  readonly pendingAuthorizations: number;
}

export interface Store {
  readonly upstreamTokens: UpstreamTokens;
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
