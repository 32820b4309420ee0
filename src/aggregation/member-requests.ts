import type { ServerContext } from "@modelcontextprotocol/server";
import { hashedHandle } from "../store/hashed-handle.ts";
import { accessTo, type ConsentDeps, connectedResult, connectResult } from "./consent.ts";
import type { Conversation } from "./conversation.ts";
import { ConsentNeeded } from "./errors.ts";
import { isObject, type JsonObject, stringOf } from "./json.ts";
import type { MemberCalls } from "./member-calls.ts";
import type { MemberSessions } from "./member-sessions.ts";
import type { Naming } from "./names.ts";
import { ParkedCall, type ParkedCalls, type ParkedStep } from "./parked-calls.ts";
import { namedQuestion, streamRelay } from "./relays.ts";
import { type QuestionState, readState, signState } from "./request-state.ts";

/** A request whose handling may need the person: `tools/call`, `prompts/get`, `resources/read`. */
export interface AskingRequest {
  readonly method: string;
  /** With the member's own name or URI. */
  readonly params: JsonObject;
  /** The name or URI as the client knows it. */
  readonly outer: string;
  readonly rewrite: (naming: Naming, result: JsonObject) => JsonObject;
  /** Headers of the call that the client has not sent. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Passes requests on to members, and what members ask in return to the client. */
export interface MemberRequests {
  asking(
    conversation: Conversation,
    naming: Naming,
    request: AskingRequest,
    ctx: ServerContext,
  ): Promise<JsonObject>;
  plain(
    conversation: Conversation,
    naming: Naming,
    method: string,
    params: JsonObject,
    ctx: ServerContext,
  ): Promise<JsonObject>;
  /** The connect tool of a member. */
  connect(conversation: Conversation, naming: Naming, ctx: ServerContext): Promise<JsonObject>;
}

export interface MemberRequestDeps extends ConsentDeps {
  readonly calls: MemberCalls;
  readonly sessions: MemberSessions;
  readonly parked: ParkedCalls;
  readonly replica: ReplicaLink;
  /** Called when a member has been connected: its tools are available from now on. */
  readonly onConnected: (conversation: Conversation, naming: Naming, ctx: ServerContext) => void;
}

/** Other replicas, which may hold the call that a client answers. */
export interface ReplicaLink {
  readonly id: string;
  /**
   * Gives answers to a call that another replica holds, and waits for its next step.
   * @throws ProtocolError if it no longer exists
   */
  resume(
    replica: string,
    call: { readonly id: string; readonly owner: string },
    responses: Readonly<Record<string, unknown>>,
    signal: AbortSignal,
  ): Promise<ParkedStep>;
}

export function memberRequests(deps: MemberRequestDeps): MemberRequests {
  /** Calls a member that asks with `input_required` on behalf of a client that understands it. */
  async function modern(
    conversation: Conversation,
    naming: Naming,
    request: AskingRequest,
    ctx: ServerContext,
  ) {
    const call = callOf(naming, request);
    const state = await readState(conversation, call, ctx);
    const result = await deps.calls.call(conversation, naming, {
      method: request.method,
      params: {
        ...request.params,
        ...(ctx.mcpReq.inputResponses === undefined ? {} : { inputResponses: ctx.mcpReq.inputResponses }),
        ...(state?.inner === undefined ? {} : { requestState: state.inner }),
      },
      signal: ctx.mcpReq.signal,
      relay: streamRelay(conversation, naming, ctx),
      returnQuestions: true,
    });
    if (result.resultType !== "input_required") return request.rewrite(naming, result);
    const inner = stringOf(result.requestState);
    const signed = await signState(conversation, { call, ...(inner === undefined ? {} : { inner }) });
    return {
      ...result,
      ...(isObject(result.inputRequests)
        ? { inputRequests: namedQuestions(naming, result.inputRequests) }
        : {}),
      requestState: signed,
    };
  }

  /** Calls a member that asks within its call on behalf of a client that is asked by the result. */
  async function parked(
    conversation: Conversation,
    naming: Naming,
    request: AskingRequest,
    ctx: ServerContext,
  ) {
    const call = callOf(naming, request);
    const state = await readState(conversation, call, ctx);
    const owner = hashedHandle(conversation.session.handle);
    const responses = ctx.mcpReq.inputResponses ?? {};
    const { signal } = ctx.mcpReq;
    if (state?.parked !== undefined) {
      const { id, replica } = state.parked;
      const here = deps.parked.find(id, owner);
      const step = here
        ? await nextStep(deps.parked, here, responses, signal, streamRelay(conversation, naming, ctx))
        : await deps.replica.resume(replica, { id, owner }, responses, signal);
      return answerWith(step, state.parked);
    }
    const waiting = new ParkedCall(owner, conversation.call.caller);
    waiting.listener = streamRelay(conversation, naming, ctx);
    waiting.start(
      deps.calls.call(conversation, naming, {
        method: request.method,
        params: request.params,
        signal: waiting.signal,
        relay: waiting.relay,
      }),
    );
    const step = await waiting.next(signal);
    if (step.kind === "questions") deps.parked.keep(waiting);
    return answerWith(step, { id: waiting.id, replica: deps.replica.id });

    async function answerWith(step: ParkedStep, parked: NonNullable<QuestionState["parked"]>) {
      if (step.kind === "result") return request.rewrite(naming, step.result);
      return {
        resultType: "input_required",
        inputRequests: namedQuestions(naming, step.questions),
        requestState: await signState(conversation, { call, parked }),
      };
    }
  }

  async function asking(
    conversation: Conversation,
    naming: Naming,
    request: AskingRequest,
    ctx: ServerContext,
  ) {
    if (conversation.client.era === "modern") {
      const { era } = await deps.sessions.of(conversation, naming);
      return era === "modern"
        ? modern(conversation, naming, request, ctx)
        : parked(conversation, naming, request, ctx);
    }
    const result = await deps.calls.call(conversation, naming, {
      method: request.method,
      params: request.params,
      ...(request.headers && { headers: request.headers }),
      signal: ctx.mcpReq.signal,
      relay: streamRelay(conversation, naming, ctx),
    });
    return request.rewrite(naming, result);
  }

  return {
    asking,

    plain: (conversation, naming, method, params, ctx) =>
      deps.calls.call(conversation, naming, {
        method,
        params,
        signal: ctx.mcpReq.signal,
        relay: streamRelay(conversation, naming, ctx),
      }),

    async connect(conversation, naming, ctx) {
      const { usable } = await accessTo(deps, conversation);
      if (usable.has(naming) && (await isConnected(conversation, naming, ctx.mcpReq.signal))) {
        deps.onConnected(conversation, naming, ctx);
        return connectedResult(naming);
      }
      return connectResult(deps, conversation, naming, ctx);
    },
  };

  /** Asks the member: only it, or the check before it, knows. @throws MemberFailed */
  async function isConnected(
    conversation: Conversation,
    naming: Naming,
    signal: AbortSignal,
  ): Promise<boolean> {
    try {
      await deps.calls.call(conversation, naming, { method: "tools/list", signal, timeoutMs: 10_000 });
      return true;
    } catch (error) {
      if (error instanceof ConsentNeeded) return false;
      throw error;
    }
  }
}

/** Gives a call of this replica the answers, and waits for its next step. */
export async function nextStep(
  parked: ParkedCalls,
  call: ParkedCall,
  responses: Readonly<Record<string, unknown>>,
  signal: AbortSignal,
  listener: ParkedCall["listener"],
): Promise<ParkedStep> {
  call.listener = listener;
  call.answer(responses);
  try {
    const step = await call.next(signal);
    if (step.kind === "result") parked.release(call);
    else parked.keep(call);
    return step;
  } catch (error) {
    parked.release(call);
    throw error;
  }
}

function callOf({ member }: Naming, { method, outer }: AskingRequest): QuestionState["call"] {
  return [member.route.id, method, outer];
}

function namedQuestions(naming: Naming, questions: JsonObject): Record<string, JsonObject> {
  return Object.fromEntries(
    Object.entries(questions).flatMap(([key, question]) =>
      isObject(question) && typeof question.method === "string"
        ? [
            [
              key,
              isObject(question.params)
                ? { ...question, params: namedQuestion(naming, question.method, question.params) }
                : question,
            ],
          ]
        : [],
    ),
  );
}
