import type { IncomingMessage, ServerResponse } from "node:http";
import { text } from "node:stream/consumers";

/** One request as a server received it; tests search it for tokens. */
export interface RecordedRequest {
  readonly method: string;
  readonly url: string;
  /** Names and values in the order and spelling received; repeated headers are repeated. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
}

/** Wraps `handler` so that every request is kept (the last 2,000) before it is handled. */
export function recordRequests(
  handler: (request: IncomingMessage, response: ServerResponse, body: string) => Promise<void>,
): {
  readonly requests: RecordedRequest[];
  readonly handle: (request: IncomingMessage, response: ServerResponse) => void;
} {
  const requests: RecordedRequest[] = [];
  async function record(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await text(request);
    const headers = request.rawHeaders.flatMap((name, index) =>
      index % 2 === 0 ? [[name, request.rawHeaders[index + 1] ?? ""] as const] : [],
    );
    requests.push({ method: request.method ?? "", url: request.url ?? "", headers, body });
    if (requests.length > 2000) requests.shift();
    await handler(request, response, body);
  }
  return {
    requests,
    handle(request, response) {
      record(request, response).catch((error: unknown) => {
        if (response.headersSent) {
          response.destroy();
          return;
        }
        const reason = error instanceof Error ? error.message : String(error);
        response.writeHead(500, { "content-type": "text/plain" }).end(`${reason}\n`);
      });
    },
  };
}
