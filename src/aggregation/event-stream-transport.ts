import { type JSONRPCMessage, SSEClientTransport } from "@modelcontextprotocol/client";
import { SentNotices } from "./sent-notices.ts";

/**
 * The SDK's transport for members that speak HTTP+SSE (MCP 2024-11-05). Its stream is its session: a call has a connection of its own, so
 * that no replica depends on another's. It closes when the stream ends: the SDK would open another, which knows nothing of the call.
 */
export class EventStreamTransport extends SSEClientTransport {
  readonly #notices = new SentNotices();

  constructor(url: URL, fetchMember: typeof globalThis.fetch) {
    const stream: { ended?: () => void; opened?: boolean } = {};
    super(url, {
      fetch: async (input, init) => {
        if (init?.method === "POST") return fetchMember(input, init);
        // For the SDK: do not connect again.
        if (stream.opened) return new Response(null, { status: 204 });
        stream.opened = true;
        const response = await fetchMember(input, { ...init, method: "GET" });
        const { body, status, headers } = response;
        if (body === null) return response;
        return new Response(
          watched(body, () => stream.ended?.()),
          { status, headers },
        );
      },
    });
    stream.ended = () => void this.close();
  }

  /**
   * Delivers messages one after the other. The SDK delivers all that arrive together at once, and then forgets whom progress concerns
   * when it sees the result. Called once, when the client is connected.
   */
  deliverInTurn(): void {
    const deliver = this.onmessage;
    let turn = Promise.resolve();
    this.onmessage = (message) => {
      turn = turn.then(() => deliver?.(message)).catch((error: Error) => this.onerror?.(error));
    };
  }

  override async send(message: JSONRPCMessage): Promise<void> {
    const sent = super.send(message);
    if (!("id" in message)) this.#notices.add(sent);
    return sent;
  }

  /** Resolves when notices that are under way have been sent. */
  settled(): Promise<void> {
    return this.#notices.settled();
  }
}

/** Calls `onEnd` when the stream ends or fails. */
function watched(body: ReadableStream<Uint8Array>, onEnd: () => void): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        controller.close();
      } catch (error) {
        controller.error(error);
      }
      onEnd();
    },
    cancel: (reason) => reader.cancel(reason),
  });
}
