import { randomBytes } from "node:crypto";
import {
  isInitializeRequest,
  type JSONRPCMessage,
  WebStandardStreamableHTTPServerTransport,
} from "@modelcontextprotocol/server";
import type { AggregateSessions } from "../store/aggregate-sessions.ts";
import { hashedHandle } from "../store/hashed-handle.ts";
import type { AggregateCall } from "./aggregation.ts";
import type { Conversation } from "./conversation.ts";
import { TooMany } from "./errors.ts";
import { Exchange, type Exchanges } from "./exchanges.ts";
import { type ClientRequest, jsonRpcError, noResponse } from "./http.ts";
import { isObject, type JsonObject } from "./json.ts";
import type { Naming } from "./names.ts";
import { sentBy } from "./parameter-headers.ts";
import { type AnswerRequest, serverFor } from "./servers.ts";
import { createSession, findSession, jsonBytes, type Session, type SessionState } from "./session.ts";

/** Requests of one session that one replica handles at once. */
const maxOpen = 64;
/** Longest `initialize`, bytes of JSON: what it says is kept. */
const maxInitializeBytes = 64 * 1024;
/** Messages in one JSON-RPC batch. */
const maxBatch = 64;

export interface LegacyDeps {
  readonly sessions: AggregateSessions;
  readonly exchanges: Exchanges;
  readonly replicaId: string;
  readonly answer: (conversation: Conversation) => AnswerRequest;
  readonly instructions: (conversation: Conversation) => Promise<string>;
  /** Gets answers to our requests, and notifications. */
  readonly onOther: (conversation: Conversation, message: JSONRPCMessage) => void;
  /** Serves the stream of messages that belong to no request. */
  readonly openGet: (conversation: Conversation, received: ClientRequest) => Promise<Response>;
  readonly onEnd: (conversation: Conversation) => void;
  /** Called before a session is created. @throws TooMany */
  readonly beforeSession: (call: AggregateCall) => void;
  /** Older sessions of the grant were dropped for a new one. */
  readonly onDropped: (conversation: Conversation, dropped: readonly SessionState[]) => void;
}

/** Serves clients with a session: MCP 2025-03-26 to 2025-11-25, "Streamable HTTP". */
export function legacyClients(deps: LegacyDeps) {
  async function start(call: AggregateCall, namings: readonly Naming[], received: ClientRequest) {
    const { request, body, onEnd } = received;
    if (!isInitializeRequest(body))
      return jsonRpcError(400, -32_600, "Only one initialization request is allowed");
    if (jsonBytes(body) > maxInitializeBytes)
      return jsonRpcError(
        400,
        -32_600,
        `initialize is longer than ${maxInitializeBytes} bytes: declare shorter capabilities and clientInfo`,
        body,
      );
    deps.beforeSession(call);
    const { protocolVersion, capabilities, clientInfo } = body.params;
    // 256 bits; the store keeps only its hash.
    const handle = randomBytes(32).toString("base64url");
    const state: SessionState = {
      initialize: { protocolVersion, capabilities, clientInfo },
      stateKey: randomBytes(32).toString("base64url"),
      subscriptions: [],
      members: {},
    };
    const { session, dropped } = await createSession(deps.sessions, handle, ownerOf(call), state);
    const conversation = conversationOf(call, namings, session, request);
    if (conversation === undefined) throw new Error("a new session has no initialize");
    deps.onDropped(conversation, dropped);
    const transport = new WebStandardStreamableHTTPServerTransport({ sessionIdGenerator: () => handle });
    const server = serverFor(call.route, await deps.instructions(conversation), deps.answer(conversation));
    await server.connect(transport);
    const response = await transport.handleRequest(request, { parsedBody: body });
    if (!response.ok) await deps.sessions.remove(handle);
    onEnd(() => server.close());
    return response;
  }

  async function post(conversation: Conversation, received: ClientRequest): Promise<Response> {
    const { request, body, onEnd } = received;
    const owner = hashedHandle(conversation.session.handle);
    const transport = new WebStandardStreamableHTTPServerTransport({ sessionIdGenerator: undefined });
    const exchange = new Exchange(
      transport,
      { replica: deps.replicaId, key: conversation.session.state.stateKey },
      (message) => deps.onOther(conversation, message),
    );
    if (!hasRequest(body)) {
      await exchange.start();
      const response = await transport.handleRequest(request, { parsedBody: body });
      await exchange.close();
      return response;
    }
    if (deps.exchanges.count(owner) >= maxOpen) throw new TooMany("aggregated_requests_per_session", 1);
    const server = serverFor(conversation.call.route, "", deps.answer(conversation));
    await server.connect(exchange);
    await exchange.replay({ ...conversation.session.state.initialize });
    deps.exchanges.add(owner, exchange);
    onEnd(() => {
      deps.exchanges.remove(owner, exchange);
      // Closing aborts what is under way, which costs a call its share even if nothing is.
      return exchange.isDone ? undefined : server.close();
    });
    if (request.signal.aborted) return noResponse();
    return transport.handleRequest(request, { parsedBody: body });
  }

  return async (call: AggregateCall, namings: readonly Naming[], received: ClientRequest) => {
    const { request, body } = received;
    const handle = request.headers.get("mcp-session-id");
    if (handle === null) {
      if (request.method === "POST" && initializes(body)) return start(call, namings, received);
      return jsonRpcError(400, -32_000, "Bad Request: Mcp-Session-Id header is required", body);
    }
    const session = await findSession(deps.sessions, handle, ownerOf(call));
    const conversation = session && conversationOf(call, namings, session, request);
    if (conversation === undefined) return jsonRpcError(404, -32_001, "Session not found", body);
    switch (request.method) {
      case "POST":
        if (Array.isArray(body) && !mayBatch(conversation, body))
          return jsonRpcError(400, -32_600, "Batches are not supported, or have too many messages");
        return post(conversation, received);
      case "GET":
        return deps.openGet(conversation, received);
      case "DELETE":
        await deps.sessions.remove(handle);
        deps.onEnd(conversation);
        return new Response(null, { status: 200 });
      default:
        return jsonRpcError(405, -32_000, "Method not allowed.");
    }
  };
}

function ownerOf({ caller, route }: AggregateCall) {
  return { userId: caller.userId, grantId: caller.grantId, routeId: route.id };
}

/** Undefined: the session is not one of a client of these revisions. */
function conversationOf(
  call: AggregateCall,
  namings: readonly Naming[],
  session: Session,
  request: Request,
): Conversation | undefined {
  const { initialize, logLevel } = session.state;
  if (initialize === undefined) return undefined;
  const { protocolVersion, capabilities, clientInfo: info } = initialize;
  return {
    call,
    namings,
    session,
    client: { era: "legacy", protocolVersion, capabilities, info },
    ...(logLevel === undefined ? {} : { logLevel }),
    parameterHeaders: sentBy(request),
  };
}

function messagesOf(body: unknown): readonly JsonObject[] {
  return (Array.isArray(body) ? body : [body]).filter(isObject);
}

/** Only MCP 2025-03-26 has JSON-RPC batches; the SDK accepts them from all clients. */
function mayBatch({ client }: Conversation, batch: readonly unknown[]): boolean {
  return client.protocolVersion === "2025-03-26" && batch.length <= maxBatch;
}

function hasRequest(body: unknown): boolean {
  return messagesOf(body).some((message) => "method" in message && "id" in message);
}

function initializes(body: unknown): boolean {
  return messagesOf(body).some(({ method }) => method === "initialize");
}
