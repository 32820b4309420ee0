import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Context } from "koa";
import { isObject } from "./json.ts";

/** A JSON-RPC error over HTTP, with the id of the request if there is one. */
export function jsonRpcError(status: number, code: number, message: string, body?: unknown): Response {
  const id = isObject(body) && "method" in body ? (body.id ?? null) : null;
  return Response.json(
    { jsonrpc: "2.0", error: { code, message }, id },
    { status, headers: { "cache-control": "no-store" } },
  );
}

/** A request of a client, and what must be done when its response has been sent or the client has disconnected. */
export interface ClientRequest {
  /** Without its body. Aborted when the client disconnects, also before this request was read. */
  readonly request: Request;
  /** Parsed; undefined if there is none. */
  readonly body: unknown;
  /** Called when the response has been sent or the client has disconnected; at once if it has already. */
  readonly onEnd: (work: () => unknown) => void;
  /** Ends the response, complete or not. */
  readonly end: () => void;
}

/** For a client that has disconnected: nobody reads it. */
export function noResponse(): Response {
  return new Response(null, { status: 499 });
}

/**
 * Reads the request of a client.
 * @param maxBytes of its body
 * @returns a response if it cannot be read
 */
export async function readRequest(ctx: Context, maxBytes: number): Promise<ClientRequest | Response> {
  const { req, res } = ctx;
  const gone = new AbortController();
  // "close" comes once, and may have come before: something was awaited since the request arrived.
  const onEnd = (work: () => unknown) =>
    void (res.closed || res.destroyed ? work() : res.once("close", work));
  onEnd(() => {
    if (!res.writableFinished) gone.abort(new Error("the client has disconnected"));
  });
  const headers = new Headers();
  for (const [name, value] of Object.entries(req.headers))
    if (typeof value === "string") headers.set(name, value);
  const { method = "GET" } = req;
  const request = new Request(ctx.URL, { method, headers, signal: gone.signal });
  const received = { request, onEnd, end: () => void res.destroy() };
  if (method !== "POST") return { ...received, body: undefined };
  const text = await textOf(req, maxBytes);
  if (text === undefined) return jsonRpcError(413, -32_000, `The request is longer than ${maxBytes} bytes`);
  try {
    return { ...received, body: text === "" ? undefined : JSON.parse(text) };
  } catch {
    return jsonRpcError(400, -32_700, "Parse error: Invalid JSON");
  }
}

/** Undefined: it is too long. */
async function textOf(request: IncomingMessage, maxBytes: number): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  if (Number(request.headers["content-length"]) > maxBytes) return undefined;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > maxBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Sends a response. Streams that may be silent for long begin at once. */
export async function sendResponse(ctx: Context, response: Response): Promise<void> {
  ctx.status = response.status;
  for (const [name, value] of response.headers)
    if (name !== "connection" && name !== "keep-alive") ctx.set(name, value);
  if (!response.headers.has("cache-control")) ctx.set("cache-control", "no-store");
  const type = response.headers.get("content-type") ?? "";
  if (response.body === null || !type.startsWith("text/event-stream")) {
    ctx.body = response.body === null ? null : Buffer.from(await response.arrayBuffer());
    ctx.status = response.status;
    return;
  }
  ctx.respond = false;
  await pump(ctx.res, response.body, ctx.method === "GET");
}

/** How long a stream may be silent before its header is sent without a message, ms. */
const headerMs = 100;

async function pump(res: ServerResponse, body: ReadableStream<Uint8Array>, atOnce: boolean): Promise<void> {
  const reader = body.getReader();
  const closed = new AbortController();
  const cancel = () => {
    closed.abort();
    void reader.cancel().catch(() => {});
  };
  res.once("close", cancel);
  if (res.closed || res.destroyed) cancel();
  else if (atOnce) res.flushHeaders();
  const header = setTimeout(() => res.headersSent || res.flushHeaders(), headerMs);
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      if (res.destroyed) return;
      // Rejects, without leaving listeners, when the client disconnects: the reader is cancelled then.
      if (!res.write(next.value)) await once(res, "drain", { signal: closed.signal }).catch(() => {});
    }
  } finally {
    clearTimeout(header);
    res.off("close", cancel);
    if (res.destroyed) cancel();
    else res.end();
  }
}

/** Bytes of a stream that a client has not read, before which its next message ends the stream. */
export const maxUnsentBytes = 4 * 1024 * 1024;

/**
 * Bounds what waits for a client that does not read: the SDK's streams have no limit. For streams without an end; what a call sends is
 * bounded by its member's response.
 * @param onFull called once; must end the response
 */
export function limitUnsent(response: Response, onFull: () => void): Response {
  if (response.body === null) return response;
  const reader = response.body.getReader();
  async function copy(to: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      if ((to.desiredSize ?? 0) > 0) to.enqueue(next.value);
      else {
        onFull();
        throw new Error("the client does not read");
      }
    }
    to.close();
  }
  const limited = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        copy(controller).catch((error) => {
          void reader.cancel(error).catch(() => {});
          controller.error(error);
        });
      },
      cancel: (reason) => reader.cancel(reason),
    },
    new ByteLengthQueuingStrategy({ highWaterMark: maxUnsentBytes }),
  );
  const { status, headers } = response;
  return new Response(limited, { status, headers });
}
