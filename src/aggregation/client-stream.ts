import { ProtocolError, ProtocolErrorCode } from "@modelcontextprotocol/client";
import { hashedHandle } from "../store/hashed-handle.ts";
import { withDeadline } from "../util/deadline.ts";
import type { AggregationDeps } from "./aggregation.ts";
import { type AccessDeps, accessTo } from "./consent.ts";
import type { Conversation } from "./conversation.ts";
import type { JsonObject } from "./json.ts";
import type { MemberClientDeps } from "./member-clients.ts";
import type { MemberSessions } from "./member-sessions.ts";
import { type MemberStream, openMemberStream, type Wanted } from "./member-streams.ts";
import type { Naming } from "./names.ts";
import { outerNotification } from "./relays.ts";
import type { Session } from "./session.ts";
import { innerUri } from "./uris.ts";

/** How long opening a client's stream waits for the streams of members, ms. */
const openingMs = 3_000;

/**
 * How long after the stream of a member has ended or could not be opened it is opened again, ms: at first, and at most. On average: the
 * streams of all clients end together when a member restarts.
 */
const reopenMs = 5_000;
const maxReopenMs = 60_000;
/** Streams that last this long are in order again, ms. */
const lastingMs = 60_000;

/** What a client listens to. */
export interface StreamWants {
  readonly tools: boolean;
  readonly prompts: boolean;
  readonly resources: boolean;
  /** URIs that it knows; "subscribed": those of its session. */
  readonly uris: readonly string[] | "subscribed";
  /** Sessions with members are opened for it; else only those that exist are listened to. */
  readonly opensSessions: boolean;
}

/** Where a client's messages go that belong to none of its calls. */
export interface StreamSink {
  readonly send: (method: string, params: JsonObject) => void;
  readonly ask?: (
    naming: Naming,
    method: string,
    params: JsonObject,
    signal: AbortSignal,
  ) => Promise<JsonObject>;
  /** Ends the client's stream. */
  readonly end: () => void;
}

const listChanges = [
  ["tools", "notifications/tools/list_changed"],
  ["prompts", "notifications/prompts/list_changed"],
  ["resources", "notifications/resources/list_changed"],
] as const;

export type ClientStreamDeps = AccessDeps &
  MemberClientDeps &
  Pick<AggregationDeps, "routes" | "onRoutesChanged" | "logger" | "metrics" | "sessions"> & {
    readonly members: MemberSessions;
    /** Reads the session again. */
    readonly reread: (conversation: Conversation) => Promise<Conversation | undefined>;
  };

/** An open stream of a client: GET until 2025-11-25, `subscriptions/listen` since 2026-07-28. */
export class ClientStream {
  readonly #deps: ClientStreamDeps;
  readonly #wants: StreamWants;
  readonly #sink: StreamSink;
  /** Hash of the session's handle. */
  readonly session: string;
  readonly #members = new Map<string, Promise<MemberStream | undefined>>();
  #conversation: Conversation;
  #closed = false;
  #reopening: NodeJS.Timeout | undefined;
  #reopenMs = reopenMs;
  #reopenedAt = 0;
  /** The members that it may hear, and what policy says, as of the last comparison. */
  #usable: string | undefined;
  #policy: string | undefined;

  constructor(deps: ClientStreamDeps, conversation: Conversation, wants: StreamWants, sink: StreamSink) {
    this.#deps = deps;
    this.session = hashedHandle(conversation.session.handle);
    this.#conversation = conversation;
    this.#wants = wants;
    this.#sink = sink;
  }

  get conversation(): Conversation {
    return this.#conversation;
  }

  /** Listens to the members. Resolves when their streams are open, or after a while. */
  async open(): Promise<void> {
    const listening = this.#listen().then((usable) => {
      this.#usable ??= usable;
    });
    await withDeadline(listening, openingMs, () => undefined);
  }

  /**
   * Opens the streams that are missing, and closes those of members that the client may no longer use.
   * @returns the members that it may use
   */
  async #listen(): Promise<string> {
    const { usable } = await accessTo(this.#deps, this.#conversation);
    const ids = new Set([...usable].map(({ member }) => member.route.id));
    this.#policy = this.#policyNow();
    for (const [id, stream] of this.#members) if (!ids.has(id)) this.#drop(id, stream);
    await Promise.all([...usable].map((naming) => this.listenTo(naming)));
    return JSON.stringify([...ids]);
  }

  #policyNow(): string {
    const { call, namings } = this.#conversation;
    const routes = [call.route, ...namings.map(({ member }) => member.route)];
    return JSON.stringify(routes.map((route) => this.#deps.mayReach(call.caller, route)));
  }

  /** Whether policy says something else than at the last comparison. The store is not read. */
  policyDiffers(): boolean {
    return this.#policy !== undefined && this.#policy !== this.#policyNow();
  }

  /** Opens again what has ended or could not be opened, in a while. */
  #reopenLater(): void {
    if (this.#closed || this.#reopening !== undefined) return;
    if (performance.now() - this.#reopenedAt > this.#reopenMs + lastingMs) this.#reopenMs = reopenMs;
    const wait = this.#reopenMs * (0.5 + Math.random());
    this.#reopening = setTimeout(() => {
      this.#reopening = undefined;
      this.#reopenedAt = performance.now();
      this.#listen().catch(() => this.#reopenLater());
    }, wait).unref();
    this.#reopenMs = Math.min(2 * this.#reopenMs, maxReopenMs);
  }

  /**
   * Listens to one member, unless it does already. Never rejects: a member that cannot be listened to disturbs nothing.
   * @param session as somebody else has just changed it
   */
  async listenTo(naming: Naming, session?: Session): Promise<void> {
    if (session) this.#conversation = { ...this.#conversation, session };
    const { id } = naming.member.route;
    const known = this.#conversation.session.state.members[id];
    const before = this.#members.get(id);
    const stream = await before;
    if (this.#closed || (known === undefined && !this.#wants.opensSessions)) return;
    const current = stream !== undefined && !stream.ended() && isSame(stream, known);
    if (current || this.#members.get(id) !== before) return;
    if (before !== undefined) this.#drop(id, before);
    const opened = this.#openMember(naming, stream).catch((error: Error) => {
      this.#deps.logger.debug({ route: id, reason: error.message }, "listening to a member failed");
      // A member without such streams has none later, either.
      if (!(error instanceof ProtocolError && error.code === ProtocolErrorCode.MethodNotFound))
        this.#reopenLater();
      return undefined;
    });
    this.#members.set(id, opened);
    await opened;
  }

  async #openMember(naming: Naming, before: MemberStream | undefined): Promise<MemberStream> {
    const conversation = this.#conversation;
    const lost = before?.ended() && before.session.era === "legacy" ? before.session : undefined;
    const session = await this.#deps.members.of(conversation, naming, lost);
    const { ask } = this.#sink;
    const stream = await openMemberStream(this.#deps, conversation, naming, session, this.#wantedOf(naming), {
      notify: (method, params) => this.#pass(naming, method, params),
      ...(ask ? { ask: (method, params, signal) => ask(naming, method, params, signal) } : {}),
    });
    stream.onEnded(() => this.#reopenLater());
    if (this.#closed) await stream.close();
    return stream;
  }

  #wantedOf(naming: Naming): Wanted {
    const { uris, tools, prompts, resources } = this.#wants;
    const outer = uris === "subscribed" ? this.#conversation.session.state.subscriptions : uris;
    const own = outer.flatMap((uri) => {
      const found = innerUri(this.#conversation.namings, uri);
      return found?.naming.member.route.id === naming.member.route.id ? [found.uri] : [];
    });
    return { tools, prompts, resources, uris: own };
  }

  #pass(naming: Naming, method: string, params: JsonObject): void {
    const outer = outerNotification(naming, method, params, this.#conversation);
    if (outer !== undefined && !this.#closed) this.#sink.send(method, outer);
  }

  /** Tells the client that lists have changed. */
  changed(which: readonly ("tools" | "prompts" | "resources")[]): void {
    for (const [kind, method] of listChanges)
      if (which.includes(kind) && this.#wants[kind]) this.#sink.send(method, {});
  }

  /**
   * Compares the stream with what the session, the grant and the configuration say now.
   * @returns whether other members may be heard than before
   */
  async refresh(namings: readonly Naming[]): Promise<boolean> {
    const usable = this.#usable;
    const now = await this.#deps.reread(this.#conversation);
    if (now === undefined || now.namings.length === 0) {
      this.close();
      return false;
    }
    const before = this.#conversation.session.state.subscriptions;
    this.#conversation = { ...now, namings };
    const { subscriptions, members } = now.session.state;
    // Members of 2026-07-28 are told which resources on the stream itself.
    if (this.#wants.uris === "subscribed" && JSON.stringify(subscriptions) !== JSON.stringify(before))
      for (const [id, stream] of this.#members) if (members[id]?.era === "modern") this.#drop(id, stream);
    this.#usable = await this.#listen();
    return usable !== undefined && usable !== this.#usable;
  }

  #drop(id: string, stream: Promise<MemberStream | undefined>): void {
    this.#members.delete(id);
    void stream.then((open) => open?.close());
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#reopening);
    for (const [id, stream] of this.#members) this.#drop(id, stream);
    this.#sink.end();
  }

  get closed(): boolean {
    return this.#closed;
  }
}

function isSame(stream: MemberStream, known: unknown): boolean {
  return known === undefined || JSON.stringify(stream.session) === JSON.stringify(known);
}
