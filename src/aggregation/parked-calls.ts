import { randomUUID } from "node:crypto";
import { ProtocolError, ProtocolErrorCode } from "@modelcontextprotocol/server";
import type { JsonObject } from "./json.ts";
import { asksClient, type Relay } from "./relays.ts";

/** How long a call waits for the client's answers, ms. */
const parkedMs = 600_000;
/** Calls that wait, on one replica: of all users, of one user in all sessions, and of one session. */
const maxParked = 512;
const maxPerUser = 32;
const maxPerSession = 16;

/** What a parked call says next: its result, or questions of the member for the client. */
export type ParkedStep =
  | { readonly kind: "result"; readonly result: JsonObject }
  | { readonly kind: "questions"; readonly questions: Readonly<Record<string, JsonObject>> };

interface Question {
  readonly request: JsonObject;
  readonly answer: (response: JsonObject) => void;
  readonly fail: (error: unknown) => void;
}

/**
 * A call of a member that speaks an earlier revision than its client: the member asks within its call, the client of 2026-07-28 is asked
 * by the call's result and calls again with the answers. In the meantime the member's call waits here.
 */
export class ParkedCall {
  readonly id = randomUUID();
  /** Hash of the session that it belongs to. */
  readonly owner: string;
  readonly userId: string;
  readonly #cancelled = new AbortController();
  readonly #questions = new Map<string, Question>();
  #asked = Promise.withResolvers<void>();
  #count = 0;
  #outcome: Promise<JsonObject> | undefined;
  /** Where messages of the member go while a request of the client waits for the next step. */
  listener: Omit<Relay, "ask"> | undefined;

  /** The grant that it ends with. */
  readonly grantId: string;

  constructor(owner: string, caller: { readonly userId: string; readonly grantId: string }) {
    this.owner = owner;
    this.userId = caller.userId;
    this.grantId = caller.grantId;
  }

  get signal(): AbortSignal {
    return this.#cancelled.signal;
  }

  /** For the member's call. */
  readonly relay: Relay = {
    progress: (params) => this.listener?.progress?.(params),
    notify: (method, params) => this.listener?.notify(method, params),
    ask: (method, params, signal) => {
      if (!asksClient(method)) throw new ProtocolError(ProtocolErrorCode.MethodNotFound, "Method not found");
      this.#count += 1;
      const key = `question-${this.#count}`;
      const { promise, resolve, reject } = Promise.withResolvers<JsonObject>();
      this.#questions.set(key, { request: { method, params }, answer: resolve, fail: reject });
      signal.addEventListener("abort", () => this.#withdraw(key, signal.reason), { once: true });
      this.#asked.resolve();
      return promise;
    },
  };

  #withdraw(key: string, reason: unknown): void {
    this.#questions.get(key)?.fail(reason);
    this.#questions.delete(key);
  }

  start(call: Promise<JsonObject>): void {
    this.#outcome = call;
    // Reported by the step that waits for it, if any does.
    call.catch(() => {});
  }

  /** Gives the member the client's answers. Unknown ones are ignored. */
  answer(responses: Readonly<Record<string, unknown>>): void {
    for (const [key, response] of Object.entries(responses)) {
      const question = this.#questions.get(key);
      if (question === undefined || typeof response !== "object" || response === null) continue;
      this.#questions.delete(key);
      question.answer({ ...response });
    }
    this.#asked = Promise.withResolvers();
    if (this.#questions.size > 0) this.#asked.resolve();
  }

  /**
   * Resolves when the member has a result, or asks.
   * @param signal aborted when the client no longer waits: the member's call is cancelled
   */
  async next(signal: AbortSignal): Promise<ParkedStep> {
    const onAbort = () => this.cancel(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const asked = this.#asked.promise.then(() => undefined);
      const result = await Promise.race([this.#outcome, asked]);
      if (result !== undefined) return { kind: "result", result };
      const questions = [...this.#questions].map(([key, { request }]) => [key, request] as const);
      return { kind: "questions", questions: Object.fromEntries(questions) };
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.listener = undefined;
    }
  }

  cancel(reason: unknown): void {
    this.#cancelled.abort(reason);
    for (const key of [...this.#questions.keys()]) this.#withdraw(key, reason);
  }
}

/** The parked calls of this replica. */
export class ParkedCalls {
  readonly #calls = new Map<string, { readonly call: ParkedCall; timer: NodeJS.Timeout }>();
  readonly #onFull: () => void;

  /** @param onFull called when a call is rejected because too many wait */
  constructor(onFull: () => void) {
    this.#onFull = onFull;
  }

  find(id: string, owner: string): ParkedCall | undefined {
    const found = this.#calls.get(id)?.call;
    return found?.owner === owner ? found : undefined;
  }

  /** Keeps a call that has asked, until it is answered. @throws ProtocolError if too many wait */
  keep(call: ParkedCall): void {
    const before = this.#calls.get(call.id);
    clearTimeout(before?.timer);
    if (before === undefined && !this.#hasRoomFor(call)) {
      this.#onFull();
      const error = new ProtocolError(ProtocolErrorCode.InternalError, "Too many calls wait for answers");
      call.cancel(error);
      throw error;
    }
    const timer = setTimeout(() => {
      this.#calls.delete(call.id);
      call.cancel(new Error("nobody answered in time"));
    }, parkedMs).unref();
    this.#calls.set(call.id, { call, timer });
  }

  /** Sessions are cheap to open, so they do not protect other users. */
  #hasRoomFor(call: ParkedCall): boolean {
    const ofUser = [...this.#calls.values()].filter((one) => one.call.userId === call.userId);
    const ofSession = ofUser.filter((one) => one.call.owner === call.owner);
    return this.#calls.size < maxParked && ofUser.length < maxPerUser && ofSession.length < maxPerSession;
  }

  release(call: ParkedCall): void {
    clearTimeout(this.#calls.get(call.id)?.timer);
    this.#calls.delete(call.id);
  }

  get size(): number {
    return this.#calls.size;
  }

  /** Cancels the calls of a grant that has ended. */
  cancelGrant(grantId: string): void {
    for (const { call } of [...this.#calls.values()].filter((one) => one.call.grantId === grantId)) {
      this.release(call);
      call.cancel(new Error("the grant has ended"));
    }
  }

  close(): void {
    for (const { call, timer } of this.#calls.values()) {
      clearTimeout(timer);
      call.cancel(new Error("the gateway is shutting down"));
    }
    this.#calls.clear();
  }
}
