import {
  Client,
  type ClientOptions,
  type DiscoverResult,
  ProtocolError,
  type Transport,
} from "@modelcontextprotocol/client";
import type { Route } from "../model/route.ts";
import { withDeadline } from "../util/deadline.ts";
import type { AggregateCall, MemberFetch } from "./aggregation.ts";
import type { ClientFacts, Conversation } from "./conversation.ts";
import { EventStreamTransport } from "./event-stream-transport.ts";
import { isObject, type JsonObject, noValidation } from "./json.ts";
import { boundedFetch, MemberTransport, type Refusal } from "./member-transport.ts";
import type { Naming } from "./names.ts";
import type { MemberSession } from "./session.ts";

/** Longest instructions of a member that are kept, characters. */
const maxInstructions = 8_192;
/** How long a member may take to open a session, ms. */
export const handshakeMs = 30_000;

export interface MemberClientDeps {
  readonly memberFetch: MemberFetch;
  /** The URL of a member's MCP endpoint, as clients use it. */
  readonly memberUrl: (member: Route) => Promise<URL> | URL;
}

/** One connection to a member, for one call. */
export interface Connection {
  readonly client: Client;
  readonly refusal: Refusal;
  /** Opens the stream of messages that belong to no call. */
  openStream(): Promise<void>;
  /** Ends the member's session. */
  end(): Promise<void>;
  /** Closes it when notices have been sent. */
  close(): Promise<void>;
}

/** The client as a member sees it: its own name and capabilities, so that the member asks for nothing that it cannot do. */
function clientOf(facts: ClientFacts, options: ClientOptions): Client {
  const client = new Client(facts.info, {
    capabilities: facts.capabilities,
    jsonSchemaValidator: noValidation,
    ...options,
  });
  // Failures reach the caller of the request; all else is of no interest.
  client.onerror = () => {};
  return client;
}

/** A member that keeps no session without a connection (HTTP+SSE) could not be connected to. */
export class NotConnected extends Error {
  readonly refusal: Refusal;

  constructor(cause: unknown, refusal: Refusal) {
    super("the handshake failed", { cause });
    this.refusal = refusal;
  }
}

/**
 * A client on an existing session of a member: nothing is sent, except to a member that speaks HTTP+SSE.
 *
 * @param ownStream whether it reads the member's messages that belong to no call
 * @throws NotConnected
 */
export async function resume(
  deps: MemberClientDeps,
  { call, client: facts }: Pick<Conversation, "call" | "client">,
  { member }: Naming,
  session: MemberSession,
  ownStream: "none" | "wanted" = "none",
  prepare?: (client: Client) => void,
): Promise<Connection> {
  const refusal: Refusal = {};
  const client = clientOf(facts, {});
  prepare?.(client);
  const url = await deps.memberUrl(member.route);
  const fetchMember = deps.memberFetch(call, member.route);
  if (session.era === "legacy" && session.transport === "sse") {
    const stream = ownStream === "wanted" ? "wanted" : "call";
    const transport = new EventStreamTransport(url, boundedFetch(fetchMember, refusal, stream));
    await shakeHands(client, transport, refusal);
    transport.deliverInTurn();
    const close = () => closeAfter(client, transport);
    return { client, refusal, openStream: nothing, end: nothing, close };
  }
  const transport = new MemberTransport(
    url,
    boundedFetch(fetchMember, refusal, ownStream),
    session.era === "legacy"
      ? { id: session.sessionId, protocolVersion: session.protocolVersion }
      : undefined,
  );
  await client.connect(transport, {
    prior: session.era === "legacy" ? { kind: "legacy" } : { kind: "modern", discover: session.discover },
  });
  transport.useOwnIds();
  return {
    client,
    refusal,
    openStream: () => transport.resumeStream(""),
    end: () => transport.terminateSession(),
    close: () => closeAfter(client, transport),
  };
}

async function nothing(): Promise<void> {}

/** @throws NotConnected */
async function shakeHands(client: Client, transport: EventStreamTransport, refusal: Refusal): Promise<void> {
  const shaken = client.connect(transport, { timeout: handshakeMs }).then(
    () => undefined,
    (error: unknown) => ({ error }),
  );
  // The SDK waits for the endpoint event without a limit.
  const failed = await withDeadline(shaken, handshakeMs, () => ({ error: new Error("no endpoint event") }));
  if (failed === undefined) return;
  await client.close().catch(nothing);
  await transport.close();
  throw new NotConnected(failed.error, refusal);
}

async function closeAfter(client: Client, transport: MemberTransport | EventStreamTransport): Promise<void> {
  await transport.settled();
  await client.close().catch(nothing);
}

/** Whether a member answers a handshake, and how. */
export type Handshake =
  | { readonly ok: true; readonly session: MemberSession }
  | { readonly ok: false; readonly refusal: Refusal; readonly error: unknown };

/**
 * Opens a session with a member. It speaks the client's own era if the member does, so that a tool works as if the client called the member
 * itself: servers of both eras exist whose tools can ask the user in one of them only.
 */
export async function openSession(
  deps: MemberClientDeps,
  call: AggregateCall,
  facts: ClientFacts,
  { member }: Naming,
): Promise<Handshake> {
  const url = await deps.memberUrl(member.route);
  const fetchMember = deps.memberFetch(call, member.route);
  let opened =
    facts.era === "legacy"
      ? await negotiate("legacy", url, fetchMember, facts)
      : await negotiate("auto", url, fetchMember, facts);
  if (!opened.ok && facts.era === "legacy" && mayBeModern(opened))
    opened = await negotiate("auto", url, fetchMember, facts);
  if (opened.ok || !takesNoPosts(opened.refusal)) return opened;
  return (await openEventStream(url, fetchMember, facts)) ?? opened;
}

async function negotiate(
  mode: "legacy" | "auto",
  url: URL,
  fetchMember: typeof globalThis.fetch,
  facts: ClientFacts,
): Promise<Handshake> {
  const refusal: Refusal = {};
  const client = clientOf(facts, { versionNegotiation: { mode } });
  const transport = new MemberTransport(url, boundedFetch(fetchMember, refusal, "none"));
  try {
    await client.connect(transport, { timeout: handshakeMs });
    return { ok: true, session: sessionOf(client, transport) };
  } catch (error) {
    return { ok: false, refusal, error };
  } finally {
    await closeAfter(client, transport);
  }
}

/** Whether a member that has rejected `initialize` may have done so because it speaks 2026-07-28 only. */
function mayBeModern({ refusal, error }: Handshake & { readonly ok: false }): boolean {
  return refusal.status === 400 || refusal.status === 404 || error instanceof ProtocolError;
}

/** MCP 2025-11-25, "Backwards Compatibility": such a server may speak HTTP+SSE. */
function takesNoPosts({ status }: Refusal): boolean {
  return status === 400 || status === 404 || status === 405;
}

/** What a member says about itself over HTTP+SSE; undefined if it does not speak it. */
async function openEventStream(
  url: URL,
  fetchMember: typeof globalThis.fetch,
  facts: ClientFacts,
): Promise<Handshake | undefined> {
  const refusal: Refusal = {};
  const client = clientOf(facts, {});
  const transport = new EventStreamTransport(url, boundedFetch(fetchMember, refusal, "call"));
  try {
    await shakeHands(client, transport, refusal);
    const session = sessionOf(client, transport);
    return session.era === "legacy" ? { ok: true, session: { ...session, transport: "sse" } } : undefined;
  } catch {
    return undefined;
  } finally {
    await closeAfter(client, transport);
  }
}

function sessionOf(client: Client, transport: Transport): MemberSession {
  const discover = client.getDiscoverResult();
  const instructions = client.getInstructions()?.slice(0, maxInstructions);
  if (discover !== undefined) return { era: "modern", discover: shortened(discover, instructions) };
  const capabilities = known({ ...client.getServerCapabilities() });
  return {
    era: "legacy",
    ...(transport.sessionId === undefined ? {} : { sessionId: transport.sessionId }),
    protocolVersion: client.getNegotiatedProtocolVersion() ?? "2025-03-26",
    capabilities,
    ...(instructions === undefined ? {} : { instructions }),
  };
}

/** Only what is needed to connect again. */
function shortened(discover: DiscoverResult, instructions: string | undefined): DiscoverResult {
  const { instructions: _all, ...rest } = discover;
  const short = { ...rest, capabilities: known({ ...discover.capabilities }) };
  return instructions === undefined ? short : { ...short, instructions };
}

/** What a member says that it can do, as far as this gateway asks: whether there is one, and the flags in it. */
function known(capabilities: JsonObject): Record<string, Record<string, boolean>> {
  return Object.fromEntries(
    ["tools", "prompts", "resources", "completions", "logging"].flatMap((name) => {
      const capability = capabilities[name];
      if (!isObject(capability)) return [];
      const { listChanged, subscribe } = capability;
      return [
        [name, { ...(listChanged === true && { listChanged }), ...(subscribe === true && { subscribe }) }],
      ];
    }),
  );
}

/** Ends a session that nobody will use. */
export async function endSession(
  deps: MemberClientDeps,
  conversation: Pick<Conversation, "call" | "client">,
  naming: Naming,
  session: MemberSession,
): Promise<void> {
  if (session.era === "modern" || session.sessionId === undefined) return;
  const { end, close } = await resume(deps, conversation, naming, session);
  await end().catch(nothing);
  await close();
}

/** What a member can do. */
export function capabilitiesOf(session: MemberSession): JsonObject {
  return session.era === "modern" ? { ...session.discover.capabilities } : session.capabilities;
}

export function instructionsOf(session: MemberSession): string | undefined {
  return session.era === "modern" ? session.discover.instructions : session.instructions;
}
