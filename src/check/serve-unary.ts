import type { Http2Server, IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { UnaryHandler } from "./unary-handler.ts";

type StreamListener = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...rest: unknown[]) => void;

/** google.rpc.Code */
const resourceExhausted = 8;
const internal = 13;

const answerHeaders = { ":status": 200, "content-type": "application/grpc+proto" };
const trailers = { "grpc-status": "0" };
// `date` says nothing to a proxy on the same machine.
const answerOptions = { waitForTrailers: true, sendDate: false };
const milliseconds: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

/**
 * Serves unary gRPC methods on an HTTP/2 server by `node:http2` alone: grpc-js spends three times as much on a call as all we
 * do in it (docs/performance.md). Everything else (other methods, compressed messages, what is no gRPC) goes to those who
 * listened before.
 *
 * @param maxMessageBytes longer messages are refused (RESOURCE_EXHAUSTED).
 */
export function serveUnary(
  server: Http2Server,
  methods: ReadonlyMap<string, UnaryHandler>,
  maxMessageBytes: number,
): void {
  const others = server.listeners("stream") as StreamListener[];
  server.removeAllListeners("stream");
  const listener: StreamListener = (stream, headers, ...rest) => {
    const handler = isPlain(headers) ? methods.get(String(headers[":path"])) : undefined;
    if (handler) serve(stream, headers, handler, maxMessageBytes);
    else for (const other of others) other.call(server, stream, headers, ...rest);
  };
  server.on("stream", listener);
}

function isPlain(headers: IncomingHttpHeaders): boolean {
  const type = headers["content-type"];
  const encoding = headers["grpc-encoding"];
  return (
    headers[":method"] === "POST" &&
    (type === "application/grpc" || type === "application/grpc+proto") &&
    (encoding === undefined || encoding === "identity")
  );
}

function serve(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  handler: UnaryHandler,
  maxMessageBytes: number,
): void {
  const deadline = deadlineOf(headers["grpc-timeout"]);
  let first: Buffer | undefined;
  let more: Buffer[] | undefined;
  let length = 0;
  // A caller that went away; whoever waits for the answer has gone with it.
  stream.on("error", () => {});
  stream.on("data", (chunk: Buffer) => {
    length += chunk.length;
    if (length > maxMessageBytes + 5) {
      if (!stream.headersSent) fail(stream, resourceExhausted, "the message is too long");
      return;
    }
    if (first === undefined) first = chunk;
    else if (more === undefined) more = [first, chunk];
    else more.push(chunk);
  });
  stream.on("end", () => {
    if (stream.headersSent) return;
    const bytes = more === undefined ? first : Buffer.concat(more);
    // Node frees a stream long after its end, and with it what it can reach.
    first = undefined;
    more = undefined;
    // RFC-less, but fixed: a flag (1: compressed), four bytes of length, the message.
    if (bytes === undefined || bytes.length < 5 || bytes[0] !== 0 || bytes.readUInt32BE(1) !== length - 5) {
      return fail(stream, internal, "the call is not one uncompressed message");
    }
    try {
      handler(bytes.subarray(5), deadline, (message) => answer(stream, message));
    } catch {
      fail(stream, internal, "the message cannot be read");
    }
  });
}

function answer(stream: ServerHttp2Stream, message: Buffer): void {
  if (stream.destroyed || stream.closed) return;
  stream.respond(answerHeaders, answerOptions);
  stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  const framed = Buffer.allocUnsafe(5 + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  message.copy(framed, 5);
  stream.end(framed);
}

function fail(stream: ServerHttp2Stream, code: number, message: string): void {
  if (stream.destroyed || stream.closed || stream.headersSent) return;
  stream.respond({ ...answerHeaders, "grpc-status": code, "grpc-message": message }, { endStream: true });
}

/** `grpc-timeout`: up to eight digits and a unit; what is none counts as no deadline, for ours is shorter anyway. */
function deadlineOf(timeout: string | string[] | undefined): number {
  const match = typeof timeout === "string" ? /^(\d{1,8})([HMSmun])$/.exec(timeout) : undefined;
  const unit = milliseconds[match?.[2] ?? ""];
  return unit === undefined ? Number.POSITIVE_INFINITY : Date.now() + Number(match?.[1]) * unit;
}
