import { randomInt } from "node:crypto";
import {
  isJSONRPCRequest,
  type JSONRPCMessage,
  ProtocolErrorCode,
  type RequestId,
  StreamableHTTPClientTransport,
  type Transport,
  type TransportSendOptions,
} from "@modelcontextprotocol/client";

/** Longest response of a member, bytes. */
export const maxResponseBytes = 16 * 1024 * 1024;
/** How long the notice of a cancellation may take, ms. */
const noticeMs = 2_000;

/** How a member has last refused a request of one connection. */
export interface Refusal {
  /** HTTP status; undefined: it has refused none. */
  status?: number;
  /** `WWW-Authenticate`. */
  challenge?: string;
}

/** How a transport treats the stream of messages that belong to no call (GET). */
type OwnStream = "none" | "wanted";

/**
 * The fetch of one connection: bounds responses, notes refusals, and opens no stream that nobody reads. The SDK's
 * transport would open one after each handshake.
 */
export function boundedFetch(
  fetchMember: typeof globalThis.fetch,
  refusal: Refusal,
  ownStream: OwnStream,
): typeof globalThis.fetch {
  return async (input, init) => {
    const resumes = new Headers(init?.headers).has("last-event-id");
    if (init?.method === "GET" && ownStream === "none" && !resumes)
      return new Response(null, { status: 405 });
    const response = await fetchMember(input, init);
    if (!response.ok) {
      refusal.status = response.status;
      refusal.challenge = response.headers.get("www-authenticate") ?? undefined;
    }
    return ownStream === "wanted" || response.body === null ? response : bounded(response, response.body);
  };
}

function bounded(response: Response, body: ReadableStream<Uint8Array>): Response {
  let bytes = 0;
  const counted = body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        bytes += chunk.byteLength;
        if (bytes > maxResponseBytes) controller.error(new ResponseTooLong());
        else controller.enqueue(chunk);
      },
    }),
  );
  const { status, statusText, headers } = response;
  return new Response(counted, { status, statusText, headers });
}

/** A member's response is longer than `maxResponseBytes`. */
export class ResponseTooLong extends Error {
  constructor() {
    super(`its response is longer than ${maxResponseBytes} bytes`);
  }
}

/** The data of the error of a request whose stream ended without a response. Compared by identity: no member can send it. */
export const streamEnded = Object.freeze({});

const endedError = (id: RequestId): JSONRPCMessage => ({
  jsonrpc: "2.0",
  id,
  error: { code: ProtocolErrorCode.InternalError, message: "the stream ended", data: streamEnded },
});

/** More requests than one connection sends. */
const idRange = 1_000_000;

/**
 * Request ids and progress tokens of one connection, which the SDK's client counts from 0. Many connections share a member's session, in
 * which every id must be new (MCP, "Requests"): servers find the stream of a response by it. 0 is never used, for servers that take it
 * for an absent id.
 */
class SessionIds {
  readonly #first = randomInt(idRange, 2 ** 47);

  /** What the member gets. */
  outer(message: JSONRPCMessage): JSONRPCMessage {
    if (!("method" in message)) return message;
    const { params } = message;
    if (!("id" in message)) {
      if (message.method !== "notifications/cancelled") return message;
      return { ...message, params: { ...params, requestId: this.#shifted(params?.requestId) } };
    }
    const token = params?._meta?.progressToken;
    const meta =
      token === undefined ? {} : { _meta: { ...params?._meta, progressToken: this.#shifted(token) } };
    return {
      ...message,
      id: this.#shifted(message.id),
      ...(params === undefined ? {} : { params: { ...params, ...meta } }),
    };
  }

  /** What the SDK's client gets. */
  inner<M extends JSONRPCMessage>(message: M): M {
    if (!("method" in message)) return { ...message, id: this.#back(message.id) };
    if (message.method !== "notifications/progress") return message;
    const { params } = message;
    return { ...message, params: { ...params, progressToken: this.#back(params?.progressToken) } };
  }

  #shifted<T>(id: T): T | number {
    return typeof id === "number" ? id + this.#first : id;
  }

  #back<T>(id: T): T | number {
    const known = typeof id === "number" && id >= this.#first && id < this.#first + idRange;
    return known ? id - this.#first : id;
  }
}

/** The SDK's transport, for a session that exists already. */
export class MemberTransport extends StreamableHTTPClientTransport {
  readonly #resumes: boolean;
  readonly #ids = new SessionIds();
  readonly #notices = new Set<Promise<void>>();

  /**
   * @param session absent: a handshake is to follow. Without an id: the member keeps no sessions, and none is to follow either.
   */
  constructor(
    url: URL,
    fetchMember: typeof globalThis.fetch,
    session?: { readonly id?: string; readonly protocolVersion: string },
  ) {
    super(url, {
      fetch: fetchMember,
      sessionId: session?.id,
      protocolVersion: session?.protocolVersion,
      reconnectionOptions: {
        initialReconnectionDelay: 500,
        maxReconnectionDelay: 10_000,
        reconnectionDelayGrowFactor: 1.5,
        maxRetries: 3,
      },
      onInsufficientScope: "throw",
    });
    this.#resumes = session !== undefined;
    let handler: Transport["onmessage"];
    // The SDK sets it again after it has asked which revision the member speaks.
    Object.defineProperty(this, "onmessage", {
      get: (): Transport["onmessage"] =>
        handler && ((message, extra) => handler?.(this.#ids.inner(message), extra)),
      set: (given: Transport["onmessage"]) => {
        handler = given;
      },
    });
  }

  /** The SDK's client shakes hands unless its transport has a session. */
  override get sessionId(): string | undefined {
    return super.sessionId ?? (this.#resumes ? "" : undefined);
  }

  override async send(
    sdkMessage: JSONRPCMessage | JSONRPCMessage[],
    options?: TransportSendOptions,
  ): Promise<void> {
    const message = Array.isArray(sdkMessage)
      ? sdkMessage.map((one) => this.#ids.outer(one))
      : this.#ids.outer(sdkMessage);
    if (!Array.isArray(message) && isJSONRPCRequest(message)) {
      const { id } = message;
      return super.send(message, {
        ...options,
        // Ignored if it has been answered. The SDK would wait until the timeout.
        onRequestStreamEnd: () => this.onmessage?.(endedError(id)),
      });
    }
    const sent = super.send(message, options);
    if (!Array.isArray(message) && "method" in message && !("id" in message)) {
      const notice = sent.catch(() => {}).finally(() => this.#notices.delete(notice));
      this.#notices.add(notice);
    }
    return sent;
  }

  /** Resolves when notices that are under way, such as that of a cancellation, have been sent. */
  async settled(): Promise<void> {
    if (this.#notices.size > 0)
      await Promise.race([
        Promise.all(this.#notices),
        new Promise((resolve) => setTimeout(resolve, noticeMs).unref()),
      ]);
  }
}
