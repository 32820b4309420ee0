import type { Http2Server, Http2Session, IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { join } from "node:path";
import {
  loadPackageDefinition,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import {
  envoySecretHeader,
  nameUnprovenCall,
  type PeerAuthentication,
  type PeerProof,
} from "../../config/listeners.ts";

/** A gRPC service as a room exports it and `createGrpcServer` serves it. */
export interface GrpcService {
  /**
   * Who is let in: those who have proven in the call's metadata that they are Envoy (the default); also those who have shown
   * nothing there, for the service to judge by their message; or anybody (health checks of load balancers).
   */
  readonly admits?: "proven" | "unproven" | "anybody";
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
  /** Methods, by path (`/package.Service/Method`), that are served without grpc-js wherever a call asks for nothing special. */
  readonly unary?: Readonly<Record<string, UnaryHandler>>;
}

/**
 * Answers one call of one method, bytes to bytes. Calls `answer` exactly once.
 *
 * @param deadline Unix milliseconds; Infinity: none.
 * @param peer what the caller has shown in the call's metadata; never `wrong`.
 * @param onProven to be called when the message proves what the metadata does not: that the caller is Envoy.
 * @throws RangeError at once, when the message cannot be decoded.
 * @throws Unauthenticated at once, when neither metadata nor message prove that the caller is Envoy.
 */
export type UnaryHandler = (
  message: Buffer,
  deadline: number,
  answer: (message: Buffer) => void,
  peer: PeerProof,
  onProven: () => void,
) => void;

/** The caller has not proven that it is Envoy. It learns nothing else. */
export class Unauthenticated extends Error {
  constructor() {
    super("the caller has not proven that it is Envoy");
    this.name = "Unauthenticated";
  }
}

type StreamListener = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...rest: unknown[]) => void;

/** google.rpc.Code */
const resourceExhausted = 8;
const internal = 13;
const unauthenticated = 16;

/** A caller that has proven nothing may take this long for its message, ms. */
const unprovenMs = 10_000;
/** After the end of its answer, ms: whoever is honest ends a call by then. */
const goneMs = 1_000;
/** What a service still has to find out of a stream by then, it has found out or ended the stream, ms. */
const unprovenStreamMs = 2 * unprovenMs;
/** All that such callers have sent, bytes. */
const unprovenBytes = 64 * 1024 * 1024;
interface Waiting {
  bytes: number;
}
const ofUnproven: Waiting = { bytes: 0 };
/** Apart from the others: on a connection of Envoy's, calls that prove themselves by their message only. */
const ofEnvoy: Waiting = { bytes: 0 };

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
 * Whoever does not prove to be Envoy gets no further than this (UNAUTHENTICATED), unless the method admits it.
 *
 * @param methods by path; of those that are not in it nobody is let in.
 * @param maxMessageBytes longer messages are refused (RESOURCE_EXHAUSTED).
 * @param onProven this connection is Envoy's.
 */
export function serveUnary(
  server: Http2Server,
  methods: ReadonlyMap<string, ServedMethod>,
  peers: PeerAuthentication,
  maxMessageBytes: number,
  onProven: (session: Http2Session) => void,
): void {
  const others = server.listeners("stream") as StreamListener[];
  server.removeAllListeners("stream");
  const envoys = new WeakSet<Http2Session>();
  const listener: StreamListener = (stream, headers, ...rest) => {
    const method = methods.get(String(headers[":path"]));
    const peer = peers.judge(headers[envoySecretHeader]);
    const { session } = stream;
    let onProvenByMessage = () => {};
    if (peer === "proven") {
      if (session) onProven(session);
    } else {
      const admitted = method?.admits === "anybody" || (method?.admits === "unproven" && peer === "missing");
      // Envoy compresses nothing. Of a stranger, a few bytes would become the longest message.
      if (!admitted || !isUncompressed(headers)) {
        peers.refused();
        return turnAway(stream, unauthenticated, "the caller has not proven that it is Envoy");
      }
      const waiting = session && envoys.has(session) ? ofEnvoy : ofUnproven;
      const forget = limitUnproven(stream, method.streaming, peers, waiting);
      onProvenByMessage = () => {
        forget();
        if (!session) return;
        envoys.add(session);
        onProven(session);
      };
    }
    const handler = isPlain(headers) ? method?.unary : undefined;
    if (handler) return serve(stream, headers, handler, maxMessageBytes, peer, onProvenByMessage);
    if (peer !== "proven") stream.once("close", nameUnprovenCall(headers, onProvenByMessage));
    for (const other of others) other.call(server, stream, headers, ...rest);
  };
  server.on("stream", listener);
}

/** A method as `serveUnary` has to know it. */
export interface ServedMethod {
  readonly admits: NonNullable<GrpcService["admits"]>;
  /** The call may go on after its first message. */
  readonly streaming: boolean;
  /** Absent: grpc-js serves it. */
  readonly unary?: UnaryHandler;
}

/**
 * Whoever serves the call: it ends in time, and what such callers send has a limit together.
 *
 * @returns to be called when the caller has proven to be Envoy: what it sends no longer counts.
 */
function limitUnproven(
  stream: ServerHttp2Stream,
  streaming: boolean,
  peers: PeerAuthentication,
  waiting: Waiting,
): () => void {
  let length = 0;
  let counting = true;
  const forget = () => {
    counting = false;
    waiting.bytes -= length;
    length = 0;
  };
  const timer = streaming
    ? setTimeout(forget, unprovenStreamMs).unref()
    : setTimeout(() => stream.close(), unprovenMs);
  stream.once("close", () => {
    clearTimeout(timer);
    forget();
  });
  // Once answered to its end, it would stay for as long as the caller does not end its own side.
  stream.once("finish", () => setTimeout(() => stream.close(), goneMs).unref());
  stream.on("data", (chunk: Buffer) => {
    if (!counting) return;
    length += chunk.length;
    waiting.bytes += chunk.length;
    if (waiting.bytes <= unprovenBytes) return;
    peers.refused();
    turnAway(stream, resourceExhausted, "too much is waiting to be authenticated");
  });
  return forget;
}

function isUncompressed(headers: IncomingHttpHeaders): boolean {
  const encoding = headers["grpc-encoding"];
  return encoding === undefined || encoding === "identity";
}

function isPlain(headers: IncomingHttpHeaders): boolean {
  const type = headers["content-type"];
  return (
    headers[":method"] === "POST" &&
    (type === "application/grpc" || type === "application/grpc+proto") &&
    isUncompressed(headers)
  );
}

function serve(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  handler: UnaryHandler,
  maxMessageBytes: number,
  peer: PeerProof,
  onProven: () => void,
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
      handler(bytes.subarray(5), deadline, (message) => answer(stream, message), peer, onProven);
    } catch (error) {
      if (error instanceof Unauthenticated) fail(stream, unauthenticated, error.message);
      else fail(stream, internal, "the message cannot be read");
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

/** What the caller still sends is not read. */
function turnAway(stream: ServerHttp2Stream, code: number, message: string): void {
  stream.on("error", () => {});
  fail(stream, code, message);
  stream.close();
}

/** `grpc-timeout`: up to eight digits and a unit; what is none counts as no deadline, for ours is shorter anyway. */
function deadlineOf(timeout: string | string[] | undefined): number {
  const match = typeof timeout === "string" ? /^(\d{1,8})([HMSmun])$/.exec(timeout) : undefined;
  const unit = milliseconds[match?.[2] ?? ""];
  return unit === undefined ? Number.POSITIVE_INFINITY : Date.now() + Number(match?.[1]) * unit;
}

const folder = join(import.meta.dirname, "../..", "..", "proto");

/**
 * Definition of a gRPC service in `proto/`.
 *
 * @param file relative to `proto/`.
 * @param name fully qualified.
 */
export function loadGrpcService(file: string, name: string): ServiceDefinition {
  const loaded = loadSync(file, { includeDirs: [folder], enums: String, longs: Number });
  let found: unknown = loadPackageDefinition(loaded);
  for (const part of name.split(".")) {
    found =
      (typeof found === "object" || typeof found === "function") && found
        ? Reflect.get(found, part)
        : undefined;
  }
  const service = typeof found === "function" && "service" in found ? found.service : undefined;
  if (!isServiceDefinition(service)) throw new Error(`${file} holds no service ${name}`);
  return service;
}

function isServiceDefinition(value: unknown): value is ServiceDefinition {
  return typeof value === "object" && value !== null;
}
