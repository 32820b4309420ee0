import { randomInt } from "node:crypto";
import {
  type JSONRPCMessage,
  ProtocolErrorCode,
  type RequestId,
  StreamableHTTPClientTransport,
  type TransportSendOptions,
} from "@modelcontextprotocol/client";
import { boundedEvents } from "./member-events.ts";
import { SentNotices } from "./sent-notices.ts";

/** Longest response of a member, bytes. */
export const maxResponseBytes = 16 * 1024 * 1024;

/** How a member has last refused a request of one connection. */
export interface Refusal {
  /** HTTP status; undefined: it has refused none. */
  status?: number;
  /** `WWW-Authenticate`. */
  challenge?: string;
}

/** How a transport treats GET streams: `wanted` for messages that belong to no call, without an end; `call` carries a whole call. */
type OwnStream = "none" | "wanted" | "call";

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
    const { body, headers, status, statusText } = response;
    // A length that is known has been compared where the response was received.
    const length = headers.get("content-length");
    if (body === null || (length !== null && Number(length) <= maxResponseBytes)) return response;
    const endless = ownStream === "wanted" && headers.get("content-type")?.startsWith("text/event-stream");
    return new Response(endless ? boundedEvents(body) : bounded(body), { status, statusText, headers });
  };
}

function bounded(body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  let bytes = 0;
  return body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        bytes += chunk.byteLength;
        if (bytes > maxResponseBytes) controller.error(new ResponseTooLong());
        else controller.enqueue(chunk);
      },
    }),
  );
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

/** The message with the ids of our own requests moved by `by`. */
function withIds<T extends JSONRPCMessage>(message: T, by: number): T {
  const moved = (id: unknown) => (typeof id === "number" ? id + by : id);
  if (!("method" in message)) return by < 0 ? { ...message, id: moved(message.id) } : message;
  const { params } = message;
  if (message.method === "notifications/cancelled" && by > 0)
    return { ...message, params: { ...params, requestId: moved(params?.requestId) } };
  if (message.method === "notifications/progress" && by < 0)
    return { ...message, params: { ...params, progressToken: moved(params?.progressToken) } };
  if (!("id" in message) || by < 0) return message;
  const token = params?._meta?.progressToken;
  return {
    ...message,
    id: moved(message.id),
    // The SDK's token is the id.
    ...(token === message.id && {
      params: { ...params, _meta: { ...params?._meta, progressToken: moved(token) } },
    }),
  };
}

/** The SDK's transport, for a session that exists already. */
export class MemberTransport extends StreamableHTTPClientTransport {
  readonly #resumes: boolean;
  readonly #notices = new SentNotices();
  #firstId = 0;

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
  }

  /**
   * Gives requests ids that no other call has: each has its own client, which counts from 0, and the ids of one session must differ on
   * all replicas (MCP 2025-11-25, "Requests"). Called once, when the client is connected.
   */
  useOwnIds(): void {
    this.#firstId = randomInt(1, 2 ** 47);
    const deliver = this.onmessage;
    this.onmessage = (message) => deliver?.(withIds(message, -this.#firstId));
  }

  /** The SDK's client shakes hands unless its transport has a session. */
  override get sessionId(): string | undefined {
    return super.sessionId ?? (this.#resumes ? "" : undefined);
  }

  override async send(
    message: JSONRPCMessage | JSONRPCMessage[],
    options?: TransportSendOptions,
  ): Promise<void> {
    if (Array.isArray(message)) return super.send(message, options);
    const own = withIds(message, this.#firstId);
    if ("method" in own && "id" in own)
      return super.send(own, {
        ...options,
        // Ignored if it has been answered. The SDK would wait until the timeout.
        onRequestStreamEnd: () => this.onmessage?.(endedError(own.id)),
      });
    const sent = super.send(own, options);
    if ("method" in own) this.#notices.add(sent);
    return sent;
  }

  /** Resolves when notices that are under way, such as that of a cancellation, have been sent. */
  settled(): Promise<void> {
    return this.#notices.settled();
  }
}
