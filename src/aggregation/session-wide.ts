import type { ServerContext } from "@modelcontextprotocol/server";
import { hashedHandle } from "../store/hashed-handle.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { withDeadline } from "../util/deadline.ts";
import type { ClientStreams } from "./client-streams.ts";
import { allLists } from "./client-streams.ts";
import { type AccessDeps, accessTo } from "./consent.ts";
import type { Conversation } from "./conversation.ts";
import type { JsonObject } from "./json.ts";
import type { MemberList } from "./lists.ts";
import type { MemberCalls } from "./member-calls.ts";
import { capabilitiesOf, type MemberClientDeps, resume } from "./member-clients.ts";
import { endSessions } from "./member-sessions.ts";
import type { Naming } from "./names.ts";
import type { MemberSession } from "./session.ts";
import { innerUri } from "./uris.ts";

/** How long a member may take to set a level or to subscribe, ms. */
const shortMs = 10_000;
/** How long the response to a subscription waits for the session's own streams, ms. */
const followMs = 3_000;
/** Resources that one session can subscribe to. */
const maxSubscriptions = 1_000;
/** How long after a link was made it is looked for the consent, and how often, ms. */
const consentMs = 600_000;
const consentEveryMs = 3_000;

export type SessionWideDeps = MemberClientDeps &
  AccessDeps & {
    readonly calls: MemberCalls;
    readonly streams: ClientStreams;
    /** The streams of this session, on any replica, must compare themselves with it. */
    readonly onChanged: (conversation: Conversation) => void;
  };

/** What holds for a whole session of a client: its log level, subscriptions, roots, and which members wait for consent. */
export interface SessionWide {
  subscribe(conversation: Conversation, naming: Naming, outer: string, inner: string): Promise<JsonObject>;
  unsubscribe(conversation: Conversation, naming: Naming, outer: string, inner: string): Promise<JsonObject>;
  setLevel(conversation: Conversation, level: string): Promise<JsonObject>;
  onRootsChanged(conversation: Conversation): void;
  /** A session with a member was opened, or again: it learns what the client has asked for. */
  onOpened(conversation: Conversation, naming: Naming, session: MemberSession): void;
  onList(conversation: Conversation, naming: Naming, list: MemberList): void;
  onConnected(conversation: Conversation, naming: Naming, ctx: ServerContext): void;
  /** A link was made on this or another replica: the client is told when the member is connected. */
  awaitConsent(session: string, member: string): void;
  onEnd(conversation: Conversation): void;
  close(): void;
}

export function sessionWide(deps: SessionWideDeps): SessionWide {
  const { calls, streams } = deps;
  /** Members that could not be listed for want of consent or in time, by session and member. */
  const waiting = boundedCache<string, true>(10_000);
  /** What is looked for: one timer per session and member, whatever the number of links. */
  const awaited = new Map<string, { until: number; readonly timer: NodeJS.Timeout }>();

  const keyOf = ({ session }: Conversation, { member }: Naming) =>
    `${hashedHandle(session.handle)} ${member.route.id}`;
  const sessionsOf = (conversation: Conversation) =>
    conversation.namings.flatMap((naming) => {
      const session = conversation.session.state.members[naming.member.route.id];
      return session ? [{ naming, session }] : [];
    });

  function setLevelOf(conversation: Conversation, naming: Naming, session: MemberSession, level: string) {
    if (session.era === "modern" || !("logging" in capabilitiesOf(session))) return Promise.resolve();
    const params = { level };
    return calls
      .call(conversation, naming, { method: "logging/setLevel", params, timeoutMs: shortMs })
      .then(ignore, ignore);
  }

  function subscribeTo(conversation: Conversation, naming: Naming, inner: string) {
    const params = { uri: inner };
    return calls.call(conversation, naming, { method: "resources/subscribe", params, timeoutMs: shortMs });
  }

  /** Members of 2026-07-28 are subscribed to by listening to them. */
  async function isModern(conversation: Conversation, naming: Naming): Promise<boolean> {
    return conversation.session.state.members[naming.member.route.id]?.era === "modern";
  }

  function connected(session: string): void {
    for (const stream of streams.of(session)) stream.changed(allLists);
  }

  async function isConnected(conversation: Conversation, naming: Naming): Promise<boolean> {
    const { usable } = await accessTo(deps, conversation);
    if (!usable.has(naming)) return false;
    return calls.call(conversation, naming, { method: "tools/list", timeoutMs: shortMs }).then(
      () => true,
      () => false,
    );
  }

  return {
    async subscribe(conversation, naming, outer, inner) {
      if (conversation.session.state.subscriptions.length >= maxSubscriptions)
        throw new Error(`a session can subscribe to ${maxSubscriptions} resources`);
      // Opens the session if there is none: only then its revision is known.
      const result = await subscribeUnlessModern(conversation, naming, inner);
      await conversation.session.change((state) =>
        state.subscriptions.includes(outer)
          ? undefined
          : { ...state, subscriptions: [...state.subscriptions, outer] },
      );
      // What changes after the response must be heard. Streams on other replicas follow in a moment.
      const followed = streams.refresh(hashedHandle(conversation.session.handle));
      await withDeadline(followed, followMs, () => undefined);
      deps.onChanged(conversation);
      return result;
    },
    async unsubscribe(conversation, naming, outer, inner) {
      await conversation.session.change((state) =>
        state.subscriptions.includes(outer)
          ? { ...state, subscriptions: state.subscriptions.filter((uri) => uri !== outer) }
          : undefined,
      );
      deps.onChanged(conversation);
      if (await isModern(conversation, naming)) return {};
      return calls.call(conversation, naming, { method: "resources/unsubscribe", params: { uri: inner } });
    },
    async setLevel(conversation, level) {
      await conversation.session.change((state) =>
        state.logLevel === level ? undefined : { ...state, logLevel: level },
      );
      await Promise.all(
        sessionsOf(conversation).map(({ naming, session }) =>
          setLevelOf(conversation, naming, session, level),
        ),
      );
      deps.onChanged(conversation);
      return {};
    },
    onRootsChanged(conversation) {
      for (const { naming, session } of sessionsOf(conversation))
        if (session.era === "legacy") tellRootsChanged(conversation, naming, session).catch(ignore);
    },
    onOpened(conversation, naming, session) {
      const { logLevel, subscriptions } = conversation.session.state;
      if (conversation.client.era === "legacy" && logLevel !== undefined)
        void setLevelOf(conversation, naming, session, logLevel);
      for (const outer of subscriptions) {
        const found = innerUri(conversation.namings, outer);
        if (found?.naming === naming && session.era === "legacy")
          subscribeTo(conversation, naming, found.uri).catch(ignore);
      }
      for (const stream of streams.of(hashedHandle(conversation.session.handle)))
        void stream.listenTo(naming, conversation.session);
      // A server that had to start first: the client has a list without it.
      if (waiting.delete(keyOf(conversation, naming))) connected(hashedHandle(conversation.session.handle));
    },
    onList(conversation, naming, list) {
      const key = keyOf(conversation, naming);
      if (list.kind !== "listed") waiting.set(key, true);
      else if (waiting.delete(key)) connected(hashedHandle(conversation.session.handle));
    },
    onConnected(conversation, naming, ctx) {
      waiting.delete(keyOf(conversation, naming));
      connected(hashedHandle(conversation.session.handle));
      // Clients that have no stream open are told on that of the call, where their revision allows it.
      if (conversation.client.era === "legacy")
        ctx.mcpReq.notify({ method: "notifications/tools/list_changed" }).catch(ignore);
    },
    awaitConsent(session, member) {
      const key = `${session} ${member}`;
      const until = Date.now() + consentMs;
      const before = awaited.get(key);
      if (before) {
        before.until = until;
        return;
      }
      let looking = false;
      const timer = setInterval(async () => {
        const [stream] = streams.of(session);
        const naming = stream?.conversation.namings.find((one) => one.member.route.id === member);
        const late = Date.now() > (awaited.get(key)?.until ?? 0);
        const done = late || stream === undefined || naming === undefined;
        if (looking && !done) return;
        looking = true;
        const found = !done && (await isConnected(stream.conversation, naming).catch(() => false));
        looking = false;
        if (!done && !found) return;
        clearInterval(timer);
        // Another one may have begun while this one looked.
        if (awaited.get(key)?.timer === timer) awaited.delete(key);
        if (found) connected(session);
      }, consentEveryMs).unref();
      awaited.set(key, { until, timer });
    },
    onEnd(conversation) {
      for (const stream of streams.of(hashedHandle(conversation.session.handle))) streams.remove(stream);
      void endSessions(deps, conversation, conversation.session.state.members);
    },
    close() {
      for (const { timer } of awaited.values()) clearInterval(timer);
    },
  };

  async function subscribeUnlessModern(conversation: Conversation, naming: Naming, inner: string) {
    if (!(naming.member.route.id in conversation.session.state.members))
      await calls.call(conversation, naming, { method: "resources/list", timeoutMs: shortMs });
    return (await isModern(conversation, naming)) ? {} : subscribeTo(conversation, naming, inner);
  }

  async function tellRootsChanged(conversation: Conversation, naming: Naming, session: MemberSession) {
    const { client, close } = await resume(deps, conversation, naming, session);
    try {
      await client.notification({ method: "notifications/roots/list_changed" });
    } finally {
      await close();
    }
  }
}

function ignore(): void {}
