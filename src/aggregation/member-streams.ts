import type { Conversation } from "./conversation.ts";
import type { JsonObject } from "./json.ts";
import { type Connection, capabilitiesOf, type MemberClientDeps, resume } from "./member-clients.ts";
import type { Naming } from "./names.ts";
import type { MemberSession } from "./session.ts";

/** What a client wants to know of one member. */
export interface Wanted {
  readonly tools: boolean;
  readonly prompts: boolean;
  readonly resources: boolean;
  /** The member's own URIs. */
  readonly uris: readonly string[];
}

/** Where the messages go that a member sends outside of calls. */
export interface StreamListener {
  readonly notify: (method: string, params: JsonObject) => void;
  /** Absent: the client cannot be asked outside of its calls. */
  readonly ask?: (method: string, params: JsonObject, signal: AbortSignal) => Promise<JsonObject>;
}

/** The open stream of a member's messages that belong to no call. */
export interface MemberStream {
  readonly session: MemberSession;
  /** The member no longer knows the session, or has closed the stream for good. */
  ended(): boolean;
  /** Calls back once, when it has ended by itself. */
  onEnded(listener: () => void): void;
  close(): Promise<void>;
}

/**
 * Opens the stream on which a member says what has changed. The SDK opens a GET stream again when it breaks.
 * @throws the SDK's and the network's errors
 */
export function openMemberStream(
  deps: MemberClientDeps,
  conversation: Pick<Conversation, "call" | "client">,
  naming: Naming,
  session: MemberSession,
  wanted: Wanted,
  listener: StreamListener,
): Promise<MemberStream> {
  return session.era === "legacy"
    ? openGet(deps, conversation, naming, session, listener)
    : openListen(deps, conversation, naming, session, wanted, listener);
}

/** MCP 2025-03-26 to 2025-11-25, "Listening for Messages from the Server". Servers without such a stream answer 405. */
async function openGet(
  deps: MemberClientDeps,
  conversation: Pick<Conversation, "call" | "client">,
  naming: Naming,
  session: MemberSession & { readonly era: "legacy" },
  { notify, ask }: StreamListener,
): Promise<MemberStream> {
  const connection = await resume(deps, conversation, naming, session, "wanted", (client) => {
    client.fallbackNotificationHandler = async ({ method, params }) => notify(method, { ...params });
    if (ask)
      client.fallbackRequestHandler = async ({ method, params }, { mcpReq }) => ({
        ...(await ask(method, { ...params }, mcpReq.signal)),
      });
  });
  const end = new StreamEnd();
  connection.client.onclose = () => end.reached();
  // The SDK connects a few times again, and says only so that it has given up.
  connection.client.onerror = ({ message }) => {
    if (message.startsWith("Maximum reconnection attempts")) end.reached();
  };
  try {
    await connection.openStream();
  } catch (error) {
    await connection.close();
    throw error;
  }
  return streamOf(session, connection, end);
}

/** MCP 2026-07-28, "Subscriptions". */
async function openListen(
  deps: MemberClientDeps,
  conversation: Pick<Conversation, "call" | "client">,
  naming: Naming,
  session: MemberSession & { readonly era: "modern" },
  { tools, prompts, resources, uris }: Wanted,
  { notify }: StreamListener,
): Promise<MemberStream> {
  const able = capabilitiesOf(session);
  const connection = await resume(deps, conversation, naming, session, "wanted", (client) => {
    client.fallbackNotificationHandler = async ({ method, params }) => notify(method, { ...params });
  });
  const end = new StreamEnd();
  try {
    const subscription = await connection.client.listen({
      ...(tools && "tools" in able ? { toolsListChanged: true } : {}),
      ...(prompts && "prompts" in able ? { promptsListChanged: true } : {}),
      ...(resources && "resources" in able ? { resourcesListChanged: true } : {}),
      ...(uris.length > 0 ? { resourceSubscriptions: [...uris] } : {}),
    });
    void subscription.closed.then(() => end.reached());
  } catch (error) {
    await connection.close();
    throw error;
  }
  return streamOf(session, connection, end);
}

function streamOf(session: MemberSession, { refusal, close }: Connection, end: StreamEnd): MemberStream {
  return {
    session,
    ended: () => end.isReached || refusal.status === 404,
    onEnded: (listener) => end.listen(listener),
    close: () => {
      end.listen(undefined);
      return close();
    },
  };
}

/** The end of a stream, which somebody may wait for. */
class StreamEnd {
  isReached = false;
  #listener: (() => void) | undefined;

  reached(): void {
    this.isReached = true;
    this.listen(this.#listener);
  }

  /** @param listener undefined: nobody waits any more */
  listen(listener: (() => void) | undefined): void {
    this.#listener = this.isReached ? undefined : listener;
    if (this.isReached) listener?.();
  }
}
