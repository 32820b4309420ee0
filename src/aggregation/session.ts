import {
  type ClientCapabilities,
  type DiscoverResult,
  type Implementation,
  ProtocolError,
  ProtocolErrorCode,
} from "@modelcontextprotocol/server";
import type { AggregateSession, AggregateSessions } from "../store/aggregate-sessions.ts";

/** How to reach a member without a handshake. */
export type MemberSession =
  | {
      readonly era: "legacy";
      /** Absent if the member keeps no sessions. */
      readonly sessionId?: string;
      readonly protocolVersion: string;
      readonly capabilities: Readonly<Record<string, unknown>>;
      readonly instructions?: string;
      /** The HTTP+SSE transport of 2024-11-05: one connection per call. */
      readonly transport?: "sse";
    }
  | {
      readonly era: "modern";
      readonly discover: DiscoverResult;
    };

/** What a session keeps; encrypted in the store. */
export interface SessionState {
  /** What `initialize` said; absent for clients of 2026-07-28, who say it with each request. */
  readonly initialize?: {
    readonly protocolVersion: string;
    readonly capabilities: ClientCapabilities;
    readonly clientInfo: Implementation;
  };
  /** Key that signs the `requestState` of this client's calls, base64url. */
  readonly stateKey: string;
  readonly logLevel?: string;
  /** Resources that the client has subscribed to, as it knows them. */
  readonly subscriptions: readonly string[];
  readonly members: Readonly<Record<string, MemberSession>>;
}

/** How long a session lasts after its last use, ms. */
const lifeMs = 7 * 24 * 3_600_000;
/** It is extended when this much of it has passed, so that not every call writes. */
const extendAfterMs = lifeMs / 7;
/** Sessions per grant; the ones that expire first are dropped. */
const maxPerGrant = 32;
/** Longest state of a session, bytes of JSON. */
const maxStateBytes = 1024 * 1024;
/** Concurrent changes of one session from other replicas. */
const maxTries = 20;

/** A session that this replica has read for one request. */
export interface Session {
  readonly handle: string;
  /** As this replica knows it: others may have changed it since. */
  readonly state: SessionState;
  readonly version: number;
  /**
   * Changes the session unless it already is what `change` wants (undefined). False: it has ended.
   * @throws ProtocolError if it would become too long, Error if it is changed all the time, and the store's errors
   */
  change(change: Change): Promise<boolean>;
}

/** Whose session it is. */
export interface SessionOwner {
  readonly userId: string;
  readonly grantId: string;
  readonly routeId: string;
}

/** Whether the next use of a session extends its life. */
export function isToBeExtended({ expiresAt }: { readonly expiresAt: Date }): boolean {
  return expiresAt.getTime() - Date.now() < lifeMs - extendAfterMs;
}

/**
 * Creates a session.
 * @returns it, and what the older ones of the grant held that were dropped for it
 * @throws ProtocolError if it is too long
 */
export async function createSession(
  store: AggregateSessions,
  handle: string,
  owner: SessionOwner,
  state: SessionState,
): Promise<{ readonly session: Session; readonly dropped: readonly SessionState[] }> {
  checkSize(state);
  const expiresAt = new Date(Date.now() + lifeMs);
  const dropped = await store.create({ handle, ...owner, expiresAt, state }, maxPerGrant);
  return { session: new StoredSession(store, handle, { version: 1, state }), dropped };
}

/** The length of a value as JSON, bytes. */
export function jsonBytes(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value) ?? "");
}

/** @throws ProtocolError */
function checkSize(state: SessionState): void {
  if (jsonBytes(state) > maxStateBytes)
    throw new ProtocolError(
      ProtocolErrorCode.InvalidRequest,
      `This session is full: it would be longer than ${maxStateBytes} bytes. Begin a new one with fewer members or subscriptions.`,
    );
}

/** The session of this handle and owner; undefined if there is none, or if it belongs to somebody else. */
export async function findSession(
  store: AggregateSessions,
  handle: string,
  owner: SessionOwner,
): Promise<Session | undefined> {
  const found = await store.find<SessionState>(handle);
  if (
    found === undefined ||
    found.userId !== owner.userId ||
    found.grantId !== owner.grantId ||
    found.routeId !== owner.routeId
  )
    return undefined;
  const session = new StoredSession(store, handle, found);
  if (isToBeExtended(found))
    await store.update(handle, found.version, found.state, new Date(Date.now() + lifeMs)).then((done) => {
      if (done) session.changed(found.version + 1, found.state);
    });
  return session;
}

/** Undefined: nothing to change. */
type Change = (state: SessionState) => SessionState | undefined;

class StoredSession implements Session {
  readonly handle: string;
  readonly #waiting: {
    readonly change: Change;
    readonly resolve: (kept: Promise<boolean>) => void;
  }[] = [];
  #writing = false;
  readonly #store: AggregateSessions;
  #known: Pick<AggregateSession<SessionState>, "version" | "state">;

  constructor(
    store: AggregateSessions,
    handle: string,
    known: Pick<AggregateSession<SessionState>, "version" | "state">,
  ) {
    this.#store = store;
    this.handle = handle;
    this.#known = known;
  }

  get state(): SessionState {
    return this.#known.state;
  }

  get version(): number {
    return this.#known.version;
  }

  changed(version: number, state: SessionState): void {
    this.#known = { version, state };
  }

  /** Changes that wait for a write are written together: a list opens sessions with many members at once. */
  change(change: Change): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#waiting.push({ change, resolve });
    if (this.#waiting.length === 1 && !this.#writing) void this.#write();
    return promise;
  }

  async #write(): Promise<void> {
    this.#writing = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0);
      const written = this.#apply(batch.map(({ change }) => change));
      await written.catch(() => {});
      for (const { resolve } of batch) resolve(written);
    }
    this.#writing = false;
  }

  async #apply(changes: readonly Change[]): Promise<boolean> {
    for (let tries = 0; tries < maxTries; tries += 1) {
      const { version, state } = this.#known;
      const wanted = changes.reduce((current, change) => change(current) ?? current, state);
      if (wanted === state) return true;
      checkSize(wanted);
      const expiresAt = new Date(Date.now() + lifeMs);
      if (await this.#store.update(this.handle, version, wanted, expiresAt)) {
        this.changed(version + 1, wanted);
        return true;
      }
      const now = await this.#store.find<SessionState>(this.handle, "store");
      if (now === undefined) return false;
      this.#known = now;
    }
    throw new Error("the session is changed all the time");
  }
}
