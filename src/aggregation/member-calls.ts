import {
  type Client,
  ProtocolError,
  ProtocolErrorCode,
  type RequestOptions,
} from "@modelcontextprotocol/client";
import type { Conversation } from "./conversation.ts";
import { ConsentNeeded, MemberFailed } from "./errors.ts";
import { anyObject, type JsonObject } from "./json.ts";
import { type Connection, type MemberClientDeps, NotConnected, resume } from "./member-clients.ts";
import type { MemberSessions } from "./member-sessions.ts";
import { streamEnded } from "./member-transport.ts";
import type { Naming } from "./names.ts";
import type { OpenCalls } from "./open-calls.ts";
import { namedError, type Relay } from "./relays.ts";
import type { MemberSession } from "./session.ts";

/** One request to a member. */
export interface MemberCall {
  readonly method: string;
  readonly params?: JsonObject;
  /** In addition to those that the client has sent. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Aborting it cancels the member's work. */
  readonly signal?: AbortSignal;
  /** ms; default: as long as calls may take */
  readonly timeoutMs?: number;
  /** Absent: the member's messages are dropped and its questions rejected. */
  readonly relay?: Relay;
  /** Return `input_required` results of members instead of asking the client within the call. */
  readonly returnQuestions?: boolean;
}

/** How long a member may be silent during a call, ms. Progress extends it. */
const callMs = 3_600_000;

/** The requests with which a member asks the client, in each revision. */
export const questions = ["elicitation/create", "sampling/createMessage", "roots/list"] as const;

export interface MemberCalls {
  /**
   * Calls a member: opens a session if there is none, and again if the member has forgotten it, which is the only case in which a
   * request is repeated: the member has rejected it unseen.
   *
   * @throws ProtocolError the member's own error, ConsentNeeded, MemberFailed
   */
  call(conversation: Conversation, naming: Naming, call: MemberCall): Promise<JsonObject>;
}

export function memberCalls(
  deps: MemberClientDeps & {
    readonly sessions: MemberSessions;
    readonly open: Pick<OpenCalls, "add">;
    readonly onOutcome: (naming: Naming, outcome: CallOutcome) => void;
  },
): MemberCalls {
  async function once(conversation: Conversation, naming: Naming, session: MemberSession, call: MemberCall) {
    const { relay } = call;
    const connection = await resume(deps, conversation, naming, session, "none", (client) => {
      if (relay) listen(client, relay, session, conversation);
    }).catch((error: unknown) => {
      throw error instanceof NotConnected
        ? translated(error.cause, conversation, naming, session, error)
        : error;
    });
    try {
      return await connection.client.request(requestOf(conversation, session, call), anyObject, {
        ...(call.signal ? { signal: call.signal } : {}),
        timeout: call.timeoutMs ?? callMs,
        resetTimeoutOnProgress: true,
        allowInputRequired: call.returnQuestions === true,
        ...(relay?.progress ? { onprogress: (progress) => relay.progress?.({ ...progress }) } : {}),
        headers: { ...conversation.parameterHeaders, ...call.headers },
      } satisfies RequestOptions);
    } catch (error) {
      throw call.signal?.aborted ? error : translated(error, conversation, naming, session, connection);
    } finally {
      void connection.close();
    }
  }

  return {
    async call(conversation, naming, wanted) {
      const { signal: removed, leave } = deps.open.add(conversation, naming);
      const signal = wanted.signal ? AbortSignal.any([wanted.signal, removed]) : removed;
      const call = { ...wanted, signal };
      try {
        const session = await deps.sessions.of(conversation, naming);
        let result: JsonObject;
        try {
          result = await once(conversation, naming, session, call);
        } catch (error) {
          if (!(error instanceof SessionLost)) throw error;
          result = await once(
            conversation,
            naming,
            await deps.sessions.of(conversation, naming, session),
            call,
          );
        }
        deps.onOutcome(naming, "ok");
        return result;
      } catch (failed) {
        const cause = failed instanceof SessionLost ? failed.failure : failed;
        // What the member answers to a call that was cut is of no interest.
        const error: unknown = removed.aborted ? removed.reason : cause;
        deps.onOutcome(naming, outcomeOf(error));
        throw error;
      } finally {
        leave();
      }
    },
  };
}

/** How a call of a member ended: the metric's label. */
export type CallOutcome = "ok" | "error" | "consent" | "failed" | "cancelled";

function outcomeOf(error: unknown): CallOutcome {
  if (error instanceof ConsentNeeded) return "consent";
  if (error instanceof MemberFailed) return "failed";
  return error instanceof ProtocolError ? "error" : "cancelled";
}

/** A request, with what the revisions say differently. */
function requestOf(conversation: Conversation, session: MemberSession, { method, params }: MemberCall) {
  const level = conversation.logLevel;
  if (session.era === "legacy" || level === undefined)
    return { method, ...(params === undefined ? {} : { params: { ...params } }) };
  const meta = params?._meta;
  return {
    method,
    params: { ...params, _meta: { ...(typeof meta === "object" ? meta : {}), [logLevelKey]: level } },
  };
}

/** MCP 2026-07-28: the level of log messages that a request wants. */
const logLevelKey = "io.modelcontextprotocol/logLevel";

function listen(client: Client, relay: Relay, session: MemberSession, { client: facts }: Conversation): void {
  client.fallbackNotificationHandler = async ({ method, params }) => relay.notify(method, { ...params });
  if (session.era === "legacy")
    client.fallbackRequestHandler = async ({ method, params }, context) => ({
      ...(await relay.ask(method, { ...params }, context.mcpReq.signal)),
    });
  else {
    // The SDK's client asks these and calls the member again, until it has a result.
    const { elicitation, sampling, roots } = facts.capabilities;
    const able = {
      "elicitation/create": elicitation,
      "sampling/createMessage": sampling,
      "roots/list": roots,
    };
    for (const method of questions)
      if (able[method])
        client.setRequestHandler(method, { params: anyObject }, async (params, context) => ({
          ...(await relay.ask(method, params, context.mcpReq.signal)),
        }));
  }
}

/** The member does not know the session, or speaks another revision now; it has not handled the request. */
class SessionLost extends Error {
  readonly failure: MemberFailed;

  constructor(failure: MemberFailed) {
    super(failure.message);
    this.failure = failure;
  }
}

function translated(
  error: unknown,
  conversation: Conversation,
  naming: Naming,
  session: MemberSession,
  { refusal }: Pick<Connection, "refusal">,
): Error {
  if (error instanceof ProtocolError && error.data !== streamEnded) {
    if (error.code === ProtocolErrorCode.UnsupportedProtocolVersion && session.era === "modern")
      return new SessionLost(new MemberFailed(naming, error, refusal));
    const { message, data } = namedError(naming, error, conversation.client);
    return new ProtocolError(error.code, message, data);
  }
  const { status, challenge } = refusal;
  if (status === 401 || (status === 403 && /error="?insufficient_scope/.test(challenge ?? "")))
    return new ConsentNeeded(naming);
  const failure = new MemberFailed(naming, error, refusal);
  return isLost(status, error, session) ? new SessionLost(failure) : failure;
}

/** MCP 2025-11-25, "Session Management": 404; some servers say 400. A server that speaks an earlier revision now rejects the request. */
function isLost(status: number | undefined, error: unknown, session: MemberSession): boolean {
  if (session.era === "modern") return status === 400 || status === 404 || status === 405;
  // With one connection per call, there is no session to lose, but the member may have been replaced.
  if (session.transport === "sse") return status === 400 || status === 404 || status === 405;
  if (session.sessionId === undefined) return status === 400;
  return (
    status === 404 ||
    (status === 400 && error instanceof Error && /session|initiali[sz]e/i.test(error.message))
  );
}
