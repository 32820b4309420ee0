import { PassThrough, Readable } from "node:stream";
import { toWebRequest } from "@modelcontextprotocol/node";
import type { Context } from "koa";
import { isObject } from "./json.ts";

/** Longest request of a client, bytes. */
export const maxRequestBytes = 4 * 1024 * 1024;

/** A JSON-RPC error over HTTP, with the id of the request if there is one. */
export function jsonRpcError(status: number, code: number, message: string, body?: unknown): Response {
  const id = isObject(body) && "method" in body ? (body.id ?? null) : null;
  return Response.json(
    { jsonrpc: "2.0", error: { code, message }, id },
    { status, headers: { "cache-control": "no-store" } },
  );
}

/** MCP 2026-07-28, "Standard Headers": parameters of a tool that its schema wants as headers. */
export function parameterHeaders(request: Request): Record<string, string> {
  return Object.fromEntries([...request.headers].filter(([name]) => name.startsWith("mcp-param-")));
}

/**
 * The request of a client with its body, which is at most `maxRequestBytes` long. It is aborted when the client disconnects.
 * @returns a response if it cannot be read
 */
export async function readRequest(ctx: Context): Promise<{ request: Request; body: unknown } | Response> {
  const gone = new AbortController();
  ctx.res.on("close", () => {
    if (!ctx.res.writableFinished) gone.abort(new Error("the client has disconnected"));
  });
  try {
    const request = await toWebRequest(ctx.req, undefined, {
      signal: gone.signal,
      maxRequestBodySize: maxRequestBytes,
    });
    if (request.method !== "POST") return { request, body: undefined };
    const text = await request.clone().text();
    return { request, body: text === "" ? undefined : JSON.parse(text) };
  } catch (error) {
    if (error instanceof SyntaxError) return jsonRpcError(400, -32_700, "Parse error: Invalid JSON");
    if (error instanceof Error && "status" in error && error.status === 413)
      return jsonRpcError(413, -32_000, `The request is longer than ${maxRequestBytes} bytes`);
    throw error;
  }
}

/** Sends a response; streams begin at once, even if they have nothing to say yet. */
export function sendResponse(ctx: Context, response: Response): void {
  ctx.status = response.status;
  for (const [name, value] of response.headers)
    if (name !== "connection" && name !== "keep-alive") ctx.set(name, value);
  if (!response.headers.has("cache-control")) ctx.set("cache-control", "no-store");
  if (response.body === null) {
    ctx.body = null;
    ctx.status = response.status;
    return;
  }
  // Node's types of web streams and those of the DOM differ in name only.
  const body = Readable.fromWeb(response.body as import("node:stream/web").ReadableStream);
  ctx.body = body.on("error", () => ctx.res.destroy()).pipe(new PassThrough());
  ctx.res.on("close", () => body.destroy());
  if (ctx.response.get("content-type").startsWith("text/event-stream")) ctx.flushHeaders();
}

/** Calls `done` when the response has been sent, or the client has disconnected: nothing could be delivered to it any more. */
export function closeAfter(response: Response, request: Request, done: () => Promise<void>): Response {
  const once = onlyOnce(done);
  if (response.body === null) {
    once();
    return response;
  }
  request.signal.addEventListener("abort", once, { once: true });
  const ended = new TransformStream<Uint8Array, Uint8Array>({ flush: once });
  const { status, statusText, headers } = response;
  return new Response(response.body.pipeThrough(ended), { status, statusText, headers });
}

function onlyOnce(work: () => Promise<void>): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    void work().catch(() => {});
  };
}
