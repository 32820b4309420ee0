import { randomUUID } from "node:crypto";
import {
  isJSONRPCNotification,
  type JSONRPCMessage,
  ProtocolError,
  ProtocolErrorCode,
  type RequestId,
} from "@modelcontextprotocol/server";
import { hashedHandle } from "../store/hashed-handle.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import type { AggregationDeps } from "./aggregation.ts";
import type { Conversation } from "./conversation.ts";
import {
  type Addressed,
  addressed,
  cancelledRequest,
  type Exchanges,
  isMessage,
  requestIdOf,
} from "./exchanges.ts";
import { arrayOf, isObject, type JsonObject, stringOf } from "./json.ts";
import { nextStep, type ReplicaLink } from "./member-requests.ts";
import { Paced } from "./paced.ts";
import type { ParkedCalls, ParkedStep } from "./parked-calls.ts";

/** How long another replica may take to say that it has the call, ms. */
const acknowledgeMs = 10_000;
/** What one user's clients can cause other replicas, or members, to do: 10 times, then once per second. */
const pace = { burst: 10, everyMs: 1_000, maxWaiting: 64 };
/** Progress of an answer that is passed on, characters. */
const maxProgress = 4_096;
/** Answers that were passed on: each one is once. */
const maxAnswered = 10_000;

/** What other replicas send. `kind` says what to do. */
interface Waiting {
  readonly acknowledged: () => void;
  readonly step: (step: ParkedStep) => void;
  readonly failed: (error: ProtocolError) => void;
}

/** Notifications of clients that all their members get. */
interface ClientNotices {
  onRootsChanged(conversation: Conversation): void;
}

/**
 * Passes on what clients send to one replica and another waits for: answers to questions, their progress, cancellations.
 * Messages are accepted for the same session only; the store encrypts them.
 */
export function replicaLink(
  deps: Pick<AggregationDeps, "messages" | "logger" | "metrics"> & {
    readonly replicaId: string;
    readonly exchanges: Exchanges;
    readonly parked: ParkedCalls;
    readonly awaitConsent: (session: string, member: string) => void;
    readonly refreshStreams: (session: string) => Promise<void>;
  },
) {
  const { messages, replicaId, exchanges, parked, logger, metrics } = deps;
  const waiting = new Map<string, Waiting>();
  const report = (error: unknown) =>
    logger.warn(
      { reason: error instanceof Error ? error.message : String(error) },
      "passing a message to another replica failed",
    );
  /** Whether the message is on its way. */
  async function delivered(sending: ReturnType<typeof messages.send>): Promise<boolean> {
    try {
      const outcome = await sending;
      if (outcome === "sent") return true;
      metrics.limitsReached.inc({ limit: "replica_messages" });
      logger.warn({ reason: outcome }, "a message to another replica was dropped");
    } catch (error) {
      report(error);
    }
    return false;
  }
  const send = (replica: string, payload: JsonObject) => delivered(messages.send(replica, payload));
  const dropped = () => metrics.limitsReached.inc({ limit: "aggregation_notifications" });
  const broadcasts = new Paced<JsonObject>(
    pace,
    (several) => void delivered(messages.broadcast({ kind: "several", messages: several })),
    dropped,
  );
  const broadcast = ({ call }: Conversation, message: JsonObject) =>
    broadcasts.add(call.caller.userId, JSON.stringify(message), message);
  const progress = new Paced<readonly [replica: string, message: JsonObject]>(
    pace,
    (several) => {
      for (const [replica, message] of several) void send(replica, message);
    },
    dropped,
  );
  const rootsChanges = new Paced<() => void>(
    pace,
    (several) => {
      for (const change of several) change();
    },
    dropped,
  );
  const answered = boundedCache<string, true>(maxAnswered);

  /** A client answers once, but may report progress often. */
  function forward({ session, call }: Conversation, { replica, exchange, message }: Addressed): void {
    const payload = { kind: "deliver", session: hashedHandle(session.handle), exchange, message };
    if (isJSONRPCNotification(message)) {
      const key = `${exchange} ${message.params?.progressToken}`;
      if (JSON.stringify(message).length > maxProgress) dropped();
      else progress.add(call.caller.userId, key, [replica, payload]);
      return;
    }
    const key = `${exchange} ${"id" in message ? message.id : ""}`;
    if (answered.has(key)) dropped();
    else {
      answered.set(key, true);
      void send(replica, payload);
    }
  }

  async function resumeFor(from: string, wait: string, message: JsonObject): Promise<void> {
    const call = parked.find(String(message.call), String(message.owner));
    if (call === undefined) {
      await send(from, { kind: "failed", wait, message: goneText });
      return;
    }
    await send(from, { kind: "acknowledged", wait });
    const responses = isObject(message.responses) ? message.responses : {};
    try {
      const step = await nextStep(parked, call, responses, new AbortController().signal, undefined);
      if (!(await send(from, { kind: "step", wait, step })))
        await send(from, { kind: "failed", wait, message: "The answer is too long" });
    } catch (error) {
      const known = error instanceof ProtocolError ? error : undefined;
      await send(from, {
        kind: "failed",
        wait,
        code: known?.code,
        message: error instanceof Error ? error.message : "Internal error",
        data: known?.data,
      });
    }
  }

  function receive(message: unknown): void {
    if (!isObject(message)) return;
    const session = String(message.session);
    const waiter = waiting.get(String(message.wait));
    switch (message.kind) {
      case "several":
        for (const one of arrayOf(message.messages)) receive(one);
        return;
      case "deliver":
        if (isMessage(message.message)) exchanges.deliver(session, String(message.exchange), message.message);
        return;
      case "cancel": {
        const id = requestIdOf(message.requestId);
        if (id !== undefined) exchanges.cancel(session, id, cancellation(id));
        return;
      }
      case "consent":
        deps.awaitConsent(session, String(message.member));
        return;
      case "changed":
        deps.refreshStreams(session).catch(report);
        return;
      case "resume":
        resumeFor(String(message.from), String(message.wait), message).catch(report);
        return;
      case "acknowledged":
        waiter?.acknowledged();
        return;
      case "step":
        // Sent by `resumeFor` of another replica of this version.
        waiter?.step(message.step as ParkedStep);
        return;
      case "failed":
        waiter?.failed(failureOf(message));
        return;
      default:
        // From a replica of another version.
        return;
    }
  }

  const stop = messages.receive(replicaId, receive);

  const link: ReplicaLink = {
    id: replicaId,
    async resume(replica, call, responses, signal) {
      const gone = () => new ProtocolError(ProtocolErrorCode.InvalidParams, goneText);
      if (signal.aborted) throw gone();
      const wait = randomUUID();
      const done = Promise.withResolvers<ParkedStep>();
      // It may be rejected while the message is being sent, when nothing waits for it yet.
      done.promise.catch(() => {});
      const giveUp = () => done.reject(gone());
      const timer = setTimeout(giveUp, acknowledgeMs);
      signal.addEventListener("abort", giveUp, { once: true });
      waiting.set(wait, {
        acknowledged: () => clearTimeout(timer),
        step: done.resolve,
        failed: done.reject,
      });
      try {
        const sent = await send(replica, {
          kind: "resume",
          from: replicaId,
          wait,
          call: call.id,
          owner: call.owner,
          responses,
        });
        if (!sent) throw gone();
        return await done.promise;
      } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", giveUp);
        waiting.delete(wait);
      }
    },
  };

  return {
    ...link,
    /** Takes a message of a client that is not a request to where it belongs. */
    route(conversation: Conversation, message: JSONRPCMessage, clientNotices: ClientNotices): void {
      const session = hashedHandle(conversation.session.handle);
      const answer = addressed(message, conversation.session.state.stateKey);
      if (answer !== undefined) {
        if (answer.replica === replicaId) exchanges.deliver(session, answer.exchange, answer.message);
        else forward(conversation, answer);
        return;
      }
      const cancelled = cancelledRequest(message);
      if (cancelled !== undefined) {
        if (!exchanges.cancel(session, cancelled, message))
          broadcast(conversation, { kind: "cancel", session, requestId: cancelled });
        return;
      }
      if (isJSONRPCNotification(message) && message.method === "notifications/roots/list_changed")
        rootsChanges.add(conversation.call.caller.userId, session, () =>
          clientNotices.onRootsChanged(conversation),
        );
    },
    /** A session was changed: its streams follow. */
    sessionChanged(conversation: Conversation): void {
      const session = hashedHandle(conversation.session.handle);
      broadcast(conversation, { kind: "changed", session });
    },
    /** A link was made: the replica with the client's stream looks for the consent. */
    linkMade(conversation: Conversation, member: string): void {
      const session = hashedHandle(conversation.session.handle);
      broadcast(conversation, { kind: "consent", session, member });
    },
    close(): void {
      for (const paced of [broadcasts, progress, rootsChanges]) paced.close();
      stop();
    },
  };
}

/** MCP, "Cancellation". The client's reason stays at the replica that got it. */
const cancellation = (requestId: RequestId): JSONRPCMessage => ({
  jsonrpc: "2.0",
  method: "notifications/cancelled",
  params: { requestId },
});

const goneText = "The call no longer waits for answers: call again";

function failureOf(message: JsonObject): ProtocolError {
  const code = Number.isSafeInteger(message.code) ? Number(message.code) : ProtocolErrorCode.InternalError;
  return new ProtocolError(code, stringOf(message.message) ?? "Internal error", message.data);
}
