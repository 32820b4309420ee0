import { connect } from "node:net";

/** What came of one call. */
export interface Answer {
  /** The answer's message without its gRPC prefix; undefined: an error instead of an answer. */
  readonly message: Buffer | undefined;
  /** From the call to the last byte of the answer, milliseconds. */
  readonly ms: number;
}

/** One HTTP/2 connection that makes unary calls of one method. */
export interface GrpcConnection {
  /** Sends `message` (protobuf, no prefix) and calls `done` once. */
  call(message: Buffer, done: (answer: Answer) => void): void;
  /** Bytes the server lets us have under way on this connection, as it has told so far. */
  readonly window: number;
  close(): void;
}

const frame = { data: 0, headers: 1, rst: 3, settings: 4, ping: 6, goaway: 7, windowUpdate: 8 } as const;
const endStream = 1;
const ack = 1;
const roomy = 0x7fff_0000;

/**
 * A client that costs next to nothing: request headers are encoded once, frames are written by hand, of an answer only frame
 * heads are read. grpc-js's client takes more time than the servers measured with it, and so does `node:http2`'s. It keeps to
 * the server's flow control as any client has to (RFC 9113 section 5.2).
 *
 * @param address `host:port` or `unix:/path`
 * @param path `/package.Service/Method`
 */
export async function grpcConnection(address: string, path: string): Promise<GrpcConnection> {
  const colon = address.lastIndexOf(":");
  const socket = address.startsWith("unix:")
    ? connect(address.slice("unix:".length))
    : connect(Number(address.slice(colon + 1)), address.slice(0, colon)).setNoDelay();
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve).once("error", reject);
  });

  const headers = headerBlock(path);
  const calls = new Map<number, { startedAt: number; done: (answer: Answer) => void; message?: Buffer }>();
  const waiting: { id: number; message: Buffer }[] = [];
  let nextId = 1;
  let window = 65_535;
  let widest = window;
  let eaten = 0;
  let corked = false;
  let rest: Buffer = Buffer.alloc(0);

  function write(bytes: Buffer): void {
    if (!corked) {
      corked = true;
      socket.cork();
      // What one turn of the event loop has to say leaves in one piece, as from any real client.
      process.nextTick(() => {
        corked = false;
        socket.uncork();
      });
    }
    socket.write(bytes);
  }

  function send(id: number, message: Buffer): void {
    window -= message.length + 5;
    const bytes = Buffer.allocUnsafe(9 + headers.length + 9 + 5 + message.length);
    head(bytes, 0, headers.length, frame.headers, 4, id);
    headers.copy(bytes, 9);
    const at = 9 + headers.length;
    head(bytes, at, message.length + 5, frame.data, endStream, id);
    bytes[at + 9] = 0;
    bytes.writeUInt32BE(message.length, at + 10);
    message.copy(bytes, at + 14);
    write(bytes);
  }

  function settle(id: number, ok: boolean): void {
    const call = calls.get(id);
    if (!call) return;
    calls.delete(id);
    const message = ok && call.message && call.message.length >= 5 ? call.message.subarray(5) : undefined;
    call.done({ message, ms: performance.now() - call.startedAt });
  }

  function take(type: number, flags: number, id: number, payload: Buffer): void {
    switch (type) {
      case frame.data: {
        const call = calls.get(id);
        if (call) call.message = call.message ? Buffer.concat([call.message, payload]) : payload;
        eaten += payload.length;
        if (eaten > 1 << 24) {
          write(windowUpdate(eaten));
          eaten = 0;
        }
        if (flags & endStream) settle(id, false);
        return;
      }
      case frame.headers:
        // The trailers of an answer that had a message; a refusal has trailers only.
        if (flags & endStream) settle(id, true);
        return;
      case frame.rst:
        settle(id, false);
        return;
      case frame.settings:
        if (!(flags & ack)) write(Buffer.from([0, 0, 0, frame.settings, ack, 0, 0, 0, 0]));
        return;
      case frame.ping:
        if (!(flags & ack))
          write(Buffer.concat([Buffer.from([0, 0, 8, frame.ping, ack, 0, 0, 0, 0]), payload]));
        return;
      case frame.windowUpdate:
        if (id !== 0) return;
        window += payload.readUInt32BE(0);
        widest = Math.max(widest, window);
        for (let next = waiting[0]; next && next.message.length + 5 <= window; next = waiting[0]) {
          waiting.shift();
          send(next.id, next.message);
        }
        return;
      case frame.goaway:
        socket.destroy();
        return;
    }
  }

  socket.on("data", (chunk: Buffer) => {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let at = 0;
    while (bytes.length - at >= 9) {
      const length = bytes.readUIntBE(at, 3);
      if (bytes.length - at < 9 + length) break;
      const id = bytes.readUInt32BE(at + 5) & 0x7fff_ffff;
      take(bytes[at + 3] ?? 0, bytes[at + 4] ?? 0, id, bytes.subarray(at + 9, at + 9 + length));
      at += 9 + length;
    }
    rest = bytes.subarray(at);
  });
  socket.on("error", () => {});
  socket.on("close", () => {
    for (const id of [...calls.keys()]) settle(id, false);
  });

  socket.write(
    Buffer.concat([
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
      // No header table, no push, and windows that never fill.
      Buffer.from([0, 0, 18, frame.settings, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]),
      Buffer.from([0, 4, 0x7f, 0xff, 0, 0]),
      windowUpdate(roomy - 65_535),
    ]),
  );

  return {
    call(message, done) {
      if (socket.destroyed) return done({ message: undefined, ms: 0 });
      const id = nextId;
      nextId += 2;
      calls.set(id, { startedAt: performance.now(), done });
      if (waiting.length > 0 || message.length + 5 > window) waiting.push({ id, message });
      else send(id, message);
    },
    get window() {
      return widest;
    },
    close: () => socket.destroy(),
  };
}

function head(bytes: Buffer, at: number, length: number, type: number, flags: number, id: number): void {
  bytes.writeUIntBE(length, at, 3);
  bytes[at + 3] = type;
  bytes[at + 4] = flags;
  bytes.writeUInt32BE(id, at + 5);
}

function windowUpdate(bytes: number): Buffer {
  const update = Buffer.alloc(13);
  head(update, 0, 4, frame.windowUpdate, 0, 0);
  update.writeUInt32BE(bytes, 9);
  return update;
}

/** HPACK (RFC 7541) without Huffman and without the dynamic table: the same bytes for every call. */
function headerBlock(path: string): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
  return Buffer.concat([
    Buffer.from([0x83, 0x86, 0x04]),
    text(path),
    Buffer.from([0x01]),
    text("sidecar"),
    Buffer.from([0x0f, 0x10]),
    text("application/grpc"),
    Buffer.from([0x00]),
    text("te"),
    text("trailers"),
    // As `envoy-config` sends it with each check.
    Buffer.from([0x00]),
    text("x-mcp-auth-consent"),
    text("call"),
  ]);
}
