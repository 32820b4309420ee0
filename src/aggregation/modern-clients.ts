import { hash, randomBytes } from "node:crypto";
import {
  CLIENT_CAPABILITIES_META_KEY,
  CLIENT_INFO_META_KEY,
  type ClientCapabilities,
  createMcpHandler,
  type Implementation,
  LOG_LEVEL_META_KEY,
  type McpHttpHandler,
  ProtocolError,
  ProtocolErrorCode,
  type ServerEventBus,
} from "@modelcontextprotocol/server";
import type { AggregateSessions } from "../store/aggregate-sessions.ts";
import type { AggregateCall } from "./aggregation.ts";
import type { Conversation } from "./conversation.ts";
import { TooMany } from "./errors.ts";
import { type ClientRequest, noResponse } from "./http.ts";
import { isObject, type JsonObject, stringOf } from "./json.ts";
import type { Naming } from "./names.ts";
import type { Listening } from "./notices.ts";
import { headerMismatch, sentBy } from "./parameter-headers.ts";
import { type AnswerRequest, serverFor } from "./servers.ts";
import { createSession, findSession, type SessionState } from "./session.ts";

export interface ModernDeps {
  readonly sessions: AggregateSessions;
  readonly answer: (conversation: Conversation) => AnswerRequest;
  readonly instructions: (conversation: Conversation) => Promise<string>;
  /** The changes that a client subscribes to (`subscriptions/listen`). */
  readonly openListen: (conversation: Conversation, listening: Listening) => Promise<ServerEventBus>;
  /** Called before a session is created. @throws TooMany */
  readonly beforeSession: (call: AggregateCall) => void;
  /** Older sessions of the grant were dropped for a new one. */
  readonly onDropped: (conversation: Conversation, dropped: readonly SessionState[]) => void;
  /** Ends the stream of a client that does not read. */
  readonly limitUnsent: (response: Response, received: ClientRequest) => Response;
}

/** Serves clients of MCP 2026-07-28, which have no session: what they share between calls is kept by grant. */
export function modernClients(deps: ModernDeps) {
  return async (
    call: AggregateCall,
    namings: readonly Naming[],
    received: ClientRequest,
  ): Promise<Response> => {
    const { request, body } = received;
    const message: JsonObject = isObject(body) ? body : {};
    const params = isObject(message.params) ? message.params : {};
    const meta = isObject(params._meta) ? params._meta : {};
    const opened: { conversation?: Conversation } = {};
    const failure: { status?: number; tooMany?: TooMany } = {};
    const open = async () => {
      opened.conversation ??= await conversationOf(deps, call, namings, request, meta).catch((error) => {
        if (error instanceof TooMany) failure.tooMany = error;
        throw error;
      });
      return opened.conversation;
    };
    const noting =
      (answer: AnswerRequest): AnswerRequest =>
      async (one, ctx) => {
        try {
          return await answer(one, ctx);
        } catch (error) {
          if (error instanceof ProtocolError) failure.status = statusOf[error.code];
          throw error;
        }
      };
    const end = () => void handler?.close();
    const listens = message.method === "subscriptions/listen";
    const handler: McpHttpHandler | undefined = createMcpHandler(
      // Called once the SDK has accepted the request.
      async () => {
        const conversation = await open();
        const instructions =
          message.method === "server/discover" ? await deps.instructions(conversation) : "";
        return serverFor(call.route, instructions, noting(deps.answer(conversation)));
      },
      {
        legacy: "reject",
        ...(listens && isObject(meta[CLIENT_CAPABILITIES_META_KEY])
          ? {
              bus: await deps.openListen(await open(), {
                received,
                filter: params.notifications,
                end,
              }),
            }
          : {}),
      },
    );
    // The call of a client that has disconnected meanwhile would run for nobody.
    if (request.signal.aborted) return noResponse();
    const response = await handler.fetch(request, { parsedBody: body });
    // The SDK does not know it.
    if (failure.tooMany) throw failure.tooMany;
    const answered = failure.status === undefined ? response : withStatus(response, failure.status);
    return listens ? deps.limitUnsent(answered, received) : answered;
  };
}

/** MCP 2026-07-28, "Standard Headers" and "Sending Messages": errors with an HTTP status of their own. */
const statusOf: Readonly<Record<number, number>> = {
  [ProtocolErrorCode.MethodNotFound]: 404,
  [headerMismatch]: 400,
};

/** The SDK sets the status for errors that it finds itself, not for those of members and of `answer`. */
function withStatus(response: Response, status: number): Response {
  const { headers, body } = response;
  const isJson = headers.get("content-type")?.startsWith("application/json");
  return response.ok && isJson ? new Response(body, { status, headers }) : response;
}

/** The schema of the SDK has validated both by the time that they are used. */
async function conversationOf(
  deps: ModernDeps,
  call: AggregateCall,
  namings: readonly Naming[],
  request: Request,
  meta: JsonObject,
): Promise<Conversation> {
  const capabilities = (meta[CLIENT_CAPABILITIES_META_KEY] ?? {}) as ClientCapabilities;
  const sent = meta[CLIENT_INFO_META_KEY];
  const info = (isObject(sent) ? sent : { name: call.caller.clientId, version: "0" }) as Implementation;
  const logLevel = stringOf(meta[LOG_LEVEL_META_KEY]);
  const { session, dropped } = await sharedSession(deps, call, capabilities, info);
  const conversation: Conversation = {
    call,
    namings,
    session,
    client: { era: "modern", protocolVersion: "2026-07-28", info, capabilities },
    ...(logLevel === undefined ? {} : { logLevel }),
    parameterHeaders: sentBy(request),
  };
  deps.onDropped(conversation, dropped);
  return conversation;
}

/** The session of all requests of one grant whose clients declare the same: members' sessions depend on what they declare. */
async function sharedSession(
  { sessions, beforeSession }: ModernDeps,
  call: AggregateCall,
  capabilities: ClientCapabilities,
  info: Implementation,
): ReturnType<typeof createSession> {
  const { caller, route } = call;
  const owner = { userId: caller.userId, grantId: caller.grantId, routeId: route.id };
  const declared = JSON.stringify([owner, capabilities, info.name, info.version]);
  // Not the form of a session id: no client can name it.
  const handle = `shared:${hash("sha256", declared, "base64url")}`;
  const found = await findSession(sessions, handle, owner);
  if (found !== undefined) return { session: found, dropped: [] };
  beforeSession(call);
  const state = { stateKey: randomBytes(32).toString("base64url"), subscriptions: [], members: {} };
  try {
    return await createSession(sessions, handle, owner, state);
  } catch (error) {
    // Another request was faster.
    const theirs = await findSession(sessions, handle, owner);
    if (theirs === undefined) throw error;
    return { session: theirs, dropped: [] };
  }
}
