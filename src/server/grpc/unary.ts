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
import { packageFolder } from "../../util/package.ts";

/** A gRPC service for `createGrpcServer`. */
export interface GrpcService {
  /**
   * Callers to admit: those that prove in the call's metadata that they are Envoy (default); also those without proof in the metadata,
   * which the service authenticates by their message; or anybody (health checks of load balancers).
   */
  readonly admits?: "proven" | "unproven" | "anybody";
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
  /** Methods by path (`/package.Service/Method`) that are served without grpc-js, except for unusual calls. */
  readonly unary?: Readonly<Record<string, UnaryHandler>>;
}

/**
 * Answers a call with encoded messages. Calls `answer` exactly once.
 *
 * @param deadline Unix milliseconds, or Infinity.
 * @param peer the proof in the call's metadata; never `wrong`.
 * @param onProven to be called when the message, not the metadata, proves that the caller is Envoy.
 * @param metadata of the call, with the pseudo-headers.
 * @throws RangeError synchronously, if the message cannot be decoded.
 * @throws Unauthenticated synchronously, if neither metadata nor message prove that the caller is Envoy.
 */
export type UnaryHandler = (
  message: Buffer,
  deadline: number,
  answer: (message: Buffer) => void,
  peer: PeerProof,
  onProven: () => void,
  metadata: IncomingHttpHeaders,
) => void;

/** The caller has not proven that it is Envoy. */
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

/** How long an unauthenticated caller may take to send its message, ms. */
const unprovenMs = 10_000;
/** How long a call may stay open after its answer, ms. */
const lingerMs = 1_000;
/** Within this time a service has authenticated a stream or ended it, ms. */
const unprovenStreamMs = 2 * unprovenMs;
/** Buffered bytes of all unauthenticated callers. */
const maxUnprovenBytes = 64 * 1024 * 1024;
interface Waiting {
  bytes: number;
}
const ofUnproven: Waiting = { bytes: 0 };
/** Separate limit: calls on a known connection of Envoy that authenticate only by their message. */
const ofEnvoy: Waiting = { bytes: 0 };

const answerHeaders = { ":status": 200, "content-type": "application/grpc+proto" };
const trailers = { "grpc-status": "0" };
// A proxy on the same machine does not need `date`.
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
 * Serves unary gRPC methods with `node:http2` only: grpc-js costs three times as much per call as our own work (docs/performance.md).
 * Everything else (other methods, compressed messages, other protocols) goes to the previous listeners.
 *
 * Callers that do not prove to be Envoy are rejected (UNAUTHENTICATED), unless the method admits them.
 *
 * @param methods by path; calls of unknown methods are not admitted.
 * @param maxMessageBytes longer messages are rejected (RESOURCE_EXHAUSTED).
 * @param onProven called with each connection of Envoy.
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
    const peer = peers.verify(headers[envoySecretHeader]);
    const { session } = stream;
    let onProvenByMessage = () => {};
    if (peer === "proven") {
      if (session) onProven(session);
    } else {
      const admitted = method?.admits === "anybody" || (method?.admits === "unproven" && peer === "missing");
      // Envoy does not compress. From an unauthenticated caller, a few bytes could expand to the maximum message.
      if (!admitted || !isUncompressed(headers)) {
        peers.rejected();
        return rejectCall(stream, unauthenticated, "the caller has not proven that it is Envoy");
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

/** What `serveUnary` has to know about a method. */
export interface ServedMethod {
  readonly admits: NonNullable<GrpcService["admits"]>;
  /** Whether the call may continue after its first message. */
  readonly streaming: boolean;
  /** Default: grpc-js serves it. */
  readonly unary?: UnaryHandler;
}

/**
 * Limits the duration of an unauthenticated call, and the bytes of all such calls together.
 *
 * @returns lifts the limits; to be called when the caller has proven to be Envoy.
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
  // An answered call would stay open until the caller ends its side.
  stream.once("finish", () => setTimeout(() => stream.close(), lingerMs).unref());
  stream.on("data", (chunk: Buffer) => {
    if (!counting) return;
    length += chunk.length;
    waiting.bytes += chunk.length;
    if (waiting.bytes <= maxUnprovenBytes) return;
    peers.rejected();
    rejectCall(stream, resourceExhausted, "too many unauthenticated bytes");
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
  // The caller has disconnected and does not need the answer.
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
    // Node frees a stream, and everything it references, long after its end.
    first = undefined;
    more = undefined;
    // gRPC framing: a flag (1: compressed), four bytes of length, the message.
    if (bytes === undefined || bytes.length < 5 || bytes[0] !== 0 || bytes.readUInt32BE(1) !== length - 5) {
      return fail(stream, internal, "the call is not one uncompressed message");
    }
    try {
      handler(bytes.subarray(5), deadline, (message) => answer(stream, message), peer, onProven, headers);
    } catch (error) {
      if (error instanceof Unauthenticated) fail(stream, unauthenticated, error.message);
      else fail(stream, internal, "the message cannot be decoded");
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

/** Rejects a call without reading the rest of it. */
function rejectCall(stream: ServerHttp2Stream, code: number, message: string): void {
  stream.on("error", () => {});
  fail(stream, code, message);
  stream.close();
}

/** Parses `grpc-timeout`, up to eight digits and a unit. An invalid value means no deadline; ours is shorter anyway. */
function deadlineOf(timeout: string | string[] | undefined): number {
  const match = typeof timeout === "string" ? /^(\d{1,8})([HMSmun])$/.exec(timeout) : undefined;
  const unit = milliseconds[match?.[2] ?? ""];
  return unit === undefined ? Number.POSITIVE_INFINITY : Date.now() + Number(match?.[1]) * unit;
}

const folder = join(packageFolder, "proto");

/**
 * Loads the definition of a gRPC service from `proto/`.
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
  if (!isServiceDefinition(service)) throw new Error(`${file} has no service ${name}`);
  return service;
}

function isServiceDefinition(value: unknown): value is ServiceDefinition {
  return typeof value === "object" && value !== null;
}
