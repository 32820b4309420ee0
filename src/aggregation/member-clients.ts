import {
  Client,
  type ClientOptions,
  type DiscoverResult,
  SSEClientTransport,
  type Transport,
} from "@modelcontextprotocol/client";
import type { Route } from "../model/route.ts";
import type { AggregateCall, MemberFetch } from "./aggregation.ts";
import type { ClientFacts, Conversation } from "./conversation.ts";
import { type JsonObject, noValidation } from "./json.ts";
import { boundedFetch, MemberTransport, type Refusal } from "./member-transport.ts";
import type { Naming } from "./names.ts";
import type { MemberSession } from "./session.ts";

/** Longest instructions of a member that are kept, characters. */
const maxInstructions = 8_192;
/** How long a member may take to open a session, ms. */
export const handshakeMs = 10_000;

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

/**
 * A client on an existing session of a member: nothing is sent, unless the member has the transport of 2024-11-05, which knows no
 * session beyond a connection.
 *
 * @param ownStream whether it reads the member's messages that belong to no call
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
    const transport = eventStream(url, fetchMember, refusal);
    await client.connect(transport, { timeout: handshakeMs });
    oneByOne(transport);
    return { client, refusal, openStream: nothing, end: nothing, close: () => client.close().catch(nothing) };
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

/** HTTP+SSE of 2024-11-05. */
function eventStream(url: URL, fetchMember: typeof globalThis.fetch, refusal: Refusal): SSEClientTransport {
  return new SSEClientTransport(url, { fetch: boundedFetch(fetchMember, refusal, "wanted") });
}

/**
 * Delivers messages in turns of their own: the SDK handles notifications later than responses, and would drop the progress that arrives
 * in one piece with the result.
 */
function oneByOne(transport: SSEClientTransport): void {
  const deliver = transport.onmessage;
  let before = Promise.resolve();
  transport.onmessage = (message) => {
    before = before.then(() => {
      deliver?.(message);
      return new Promise((resolve) => setImmediate(resolve));
    });
  };
}

async function closeAfter(client: Client, transport: MemberTransport): Promise<void> {
  await transport.settled();
  await client.close().catch(() => {});
}

/** Whether a member answers a handshake, and how. */
export type Handshake =
  | { readonly ok: true; readonly session: MemberSession }
  | { readonly ok: false; readonly refusal: Refusal; readonly error: unknown };

/** Opens a session with a member: asks for the newest revision first. */
export async function openSession(
  deps: MemberClientDeps,
  call: AggregateCall,
  facts: ClientFacts,
  naming: Naming,
): Promise<Handshake> {
  const { member } = naming;
  const refusal: Refusal = {};
  const client = clientOf(facts, { versionNegotiation: { mode: "auto" } });
  const fetchMember = boundedFetch(deps.memberFetch(call, member.route), refusal, "none");
  const transport = new MemberTransport(await deps.memberUrl(member.route), fetchMember);
  try {
    await client.connect(transport, { timeout: handshakeMs });
    return { ok: true, session: sessionOf(client, transport) };
  } catch (error) {
    const { status } = refusal;
    // MCP 2025-11-25, "Backwards Compatibility": these answers to `initialize` mean an earlier transport.
    if (status === 400 || status === 404 || status === 405) {
      const earlier = await openEventStream(deps, call, facts, naming);
      if (earlier !== undefined) return { ok: true, session: earlier };
    }
    return { ok: false, refusal, error };
  } finally {
    await closeAfter(client, transport);
  }
}

/** Undefined: the member has not the transport of 2024-11-05 either. */
async function openEventStream(
  deps: MemberClientDeps,
  call: AggregateCall,
  facts: ClientFacts,
  { member }: Naming,
): Promise<MemberSession | undefined> {
  const client = clientOf(facts, {});
  const url = await deps.memberUrl(member.route);
  try {
    const transport = eventStream(url, deps.memberFetch(call, member.route), {});
    await client.connect(transport, { timeout: handshakeMs });
    const session = sessionOf(client, {});
    return session.era === "legacy" ? { ...session, transport: "sse" } : undefined;
  } catch {
    return undefined;
  } finally {
    await client.close().catch(nothing);
  }
}

function sessionOf(client: Client, { sessionId }: Pick<Transport, "sessionId">): MemberSession {
  const discover = client.getDiscoverResult();
  const instructions = client.getInstructions()?.slice(0, maxInstructions);
  if (discover !== undefined) return { era: "modern", discover: shortened(discover, instructions) };
  const capabilities: JsonObject = { ...client.getServerCapabilities() };
  return {
    era: "legacy",
    ...(sessionId === undefined ? {} : { sessionId }),
    protocolVersion: client.getNegotiatedProtocolVersion() ?? "2025-03-26",
    capabilities,
    ...(instructions === undefined ? {} : { instructions }),
  };
}

/** Only what is needed to connect again. */
function shortened(discover: DiscoverResult, instructions: string | undefined): DiscoverResult {
  const { instructions: _all, ...rest } = discover;
  return instructions === undefined ? rest : { ...rest, instructions };
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
