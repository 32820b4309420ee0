import { randomUUID } from "node:crypto";
import {
  isJSONRPCNotification,
  type JSONRPCMessage,
  ProtocolError,
  ProtocolErrorCode,
} from "@modelcontextprotocol/server";
import { hashedHandle } from "../store/hashed-handle.ts";
import type { AggregationDeps } from "./aggregation.ts";
import type { Conversation } from "./conversation.ts";
import { addressed, cancelledRequest, type Exchanges, isMessage } from "./exchanges.ts";
import { isObject, type JsonObject, stringOf } from "./json.ts";
import { nextStep, type ReplicaLink } from "./member-requests.ts";
import type { ParkedCalls, ParkedStep } from "./parked-calls.ts";

/** How long another replica may take to say that it has the call, ms. */
const acknowledgeMs = 10_000;

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
  deps: Pick<AggregationDeps, "messages" | "logger"> & {
    readonly replicaId: string;
    readonly exchanges: Exchanges;
    readonly parked: ParkedCalls;
    readonly awaitConsent: (session: string, member: string) => void;
    readonly refreshStreams: (session: string) => Promise<void>;
  },
) {
  const { messages, replicaId, exchanges, parked, logger } = deps;
  const waiting = new Map<string, Waiting>();
  const report = (error: unknown) =>
    logger.warn(
      { reason: error instanceof Error ? error.message : String(error) },
      "passing a message to another replica failed",
    );
  const send = (replica: string, payload: JsonObject) => messages.send(replica, payload).catch(report);

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
      await send(from, { kind: "step", wait, step });
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
      case "deliver":
        if (isMessage(message.message)) exchanges.deliver(session, String(message.exchange), message.message);
        return;
      case "cancel": {
        const id = isMessage(message.message) ? cancelledRequest(message.message) : undefined;
        if (id !== undefined && isMessage(message.message)) exchanges.cancel(session, id, message.message);
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
      const wait = randomUUID();
      const done = Promise.withResolvers<ParkedStep>();
      const gone = () => done.reject(new ProtocolError(ProtocolErrorCode.InvalidParams, goneText));
      const timer = setTimeout(gone, acknowledgeMs);
      signal.addEventListener("abort", gone, { once: true });
      waiting.set(wait, {
        acknowledged: () => clearTimeout(timer),
        step: done.resolve,
        failed: done.reject,
      });
      try {
        await send(replica, {
          kind: "resume",
          from: replicaId,
          wait,
          call: call.id,
          owner: call.owner,
          responses,
        });
        return await done.promise;
      } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", gone);
        waiting.delete(wait);
      }
    },
  };

  return {
    ...link,
    /** Takes a message of a client that is not a request to where it belongs. */
    route(conversation: Conversation, message: JSONRPCMessage, clientNotices: ClientNotices): void {
      const session = hashedHandle(conversation.session.handle);
      const answer = addressed(message);
      if (answer !== undefined) {
        const { replica, exchange } = answer;
        if (replica === replicaId) exchanges.deliver(session, exchange, answer.message);
        else void send(replica, { kind: "deliver", session, exchange, message: answer.message });
        return;
      }
      const cancelled = cancelledRequest(message);
      if (cancelled !== undefined) {
        if (!exchanges.cancel(session, cancelled, message))
          messages.broadcast({ kind: "cancel", session, message }).catch(report);
        return;
      }
      if (isJSONRPCNotification(message) && message.method === "notifications/roots/list_changed")
        clientNotices.onRootsChanged(conversation);
    },
    /** A session was changed: its streams follow. */
    sessionChanged(conversation: Conversation): void {
      const session = hashedHandle(conversation.session.handle);
      messages.broadcast({ kind: "changed", session }).catch(report);
    },
    /** A link was made: the replica with the client's stream looks for the consent. */
    linkMade(conversation: Conversation, member: string): void {
      const session = hashedHandle(conversation.session.handle);
      messages.broadcast({ kind: "consent", session, member }).catch(report);
    },
    close: stop,
  };
}

const goneText = "The call no longer waits for answers: call again";

function failureOf(message: JsonObject): ProtocolError {
  const code = Number.isSafeInteger(message.code) ? Number(message.code) : ProtocolErrorCode.InternalError;
  return new ProtocolError(code, stringOf(message.message) ?? "Internal error", message.data);
}
