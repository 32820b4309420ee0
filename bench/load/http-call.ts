import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { Call } from "./load.ts";

/** Connections that stay open and a way to make calls on them. */
export interface HttpCalls {
  readonly call: Call;
  close(): void;
}

/** What to send, and how to tell that what comes back is right. */
export interface HttpRequest {
  /** The whole request, head and body. */
  readonly bytes: Buffer;
  isRight(head: string, body: string): boolean;
}

/**
 * HTTP/1.1 over connections that stay open, one request at a time on each; calls wait for a free one. Bare sockets, so that
 * little of the time is the client's.
 *
 * @param place.ca present: TLS to this server name.
 */
export async function httpCalls(
  place: { readonly port: number; readonly ca?: string; readonly servername?: string },
  request: HttpRequest,
  connections: number,
): Promise<HttpCalls> {
  const free: Line[] = [];
  const waiting: { startedAt: number; done: Parameters<Call>[0] }[] = [];
  const lines: Line[] = [];

  for (let count = 0; count < connections; count++) {
    const line = createLine(place, await open(place), request, (ended) => {
      const next = waiting.shift();
      if (next) ended.send(next.startedAt, next.done);
      else free.push(ended);
    });
    lines.push(line);
    free.push(line);
  }
  return {
    call(done) {
      const startedAt = performance.now();
      // The one that has waited longest: the server closes those without calls, perhaps when a call is on its way.
      const line = free.shift();
      if (line) line.send(startedAt, done);
      else waiting.push({ startedAt, done });
    },
    close() {
      for (const line of lines) line.close();
    },
  };
}

interface Line {
  send(startedAt: number, done: Parameters<Call>[0]): void;
  close(): void;
}

/** A connection; it is opened again when the server has closed it. */
function createLine(
  place: Parameters<typeof httpCalls>[0],
  first: Socket,
  request: HttpRequest,
  onFree: (line: Line) => void,
): Line {
  let current: { startedAt: number; done: Parameters<Call>[0] } | undefined;
  let text = "";
  let isClosed = false;
  let socket = first;
  let opening = Promise.resolve();
  const settle = (ok: boolean, answer = "the connection was closed") => {
    if (!ok) console.error(`wrong answer or none: ${answer.split("\r\n", 1)[0]}`);
    const ended = current;
    current = undefined;
    text = "";
    ended?.done(ok, performance.now() - ended.startedAt);
    onFree(line);
  };
  const onData = (chunk: Buffer) => {
    text += chunk.toString("latin1");
    const end = text.indexOf("\r\n\r\n");
    if (end < 0) return;
    const length = /content-length: (\d+)/i.exec(text)?.[1];
    const whole =
      length === undefined ? text.endsWith("\r\n0\r\n\r\n") : text.length >= end + 4 + Number(length);
    if (whole) settle(request.isRight(text.slice(0, end), text.slice(end + 4)), text);
  };
  const use = (opened: Socket) => {
    socket = opened;
    socket.on("data", onData);
    socket.on("error", () => {});
    socket.on("close", () => {
      if (!isClosed) opening = open(place).then(use, () => {});
      if (current) settle(false);
    });
  };
  const write = () => {
    if (socket.destroyed) settle(false);
    else socket.write(request.bytes);
  };
  const line: Line = {
    send(startedAt, done) {
      current = { startedAt, done };
      if (socket.destroyed) opening.then(write);
      else write();
    },
    close() {
      isClosed = true;
      socket.destroy();
    },
  };
  use(first);
  return line;
}

function open({ port, ca, servername }: Parameters<typeof httpCalls>[0]): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket: Socket =
      ca === undefined
        ? connect(port, "127.0.0.1", () => resolve(socket))
        : connectTls({ port, host: "127.0.0.1", ca, servername, ALPNProtocols: ["http/1.1"] }, () =>
            resolve(socket),
          );
    socket.once("error", reject).setNoDelay();
  });
}
