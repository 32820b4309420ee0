import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

/** The peer's reaction: an HTTP status, or a closed connection without one. */
export type Reaction = { readonly status: number; readonly head: string } | { readonly status: 0 };

/** Where to send bytes: plain TCP, or TLS under `tls.host`. */
export interface BytesTarget {
  readonly port: number;
  readonly tls?: { readonly host: string; readonly ca: string };
}

/** If the peer considers the request incomplete, the client half-closes after this time, ms. */
const halfCloseMs = 100;
/** No reaction within this time is a hang, ms. */
const limit = 10_000;

/**
 * Writes bytes on a new connection, and waits for the first status line or the end.
 * @throws Error if neither arrives within 10 s.
 */
export function sendBytes(target: BytesTarget, bytes: Buffer): Promise<Reaction> {
  return new Promise((resolve, reject) => {
    const socket: Socket = target.tls
      ? connectTls({
          host: "127.0.0.1",
          port: target.port,
          servername: target.tls.host,
          ca: target.tls.ca,
          ALPNProtocols: ["http/1.1"],
        })
      : connect({ host: "127.0.0.1", port: target.port, allowHalfOpen: true });
    let answer = "";
    const finish = (reaction: Reaction) => {
      clearTimeout(half);
      clearTimeout(late);
      socket.destroy();
      resolve(reaction);
    };
    const half = setTimeout(() => socket.end(), halfCloseMs);
    const late = setTimeout(() => {
      socket.destroy();
      reject(new Error(`no reaction within ${limit} ms to ${bytes.toString("base64")}`));
    }, limit);
    socket.on("data", (chunk: Buffer) => {
      answer += chunk.toString("latin1");
      const status = /^HTTP\/1\.[01] (\d{3})/.exec(answer)?.[1];
      // Skips an interim response (100 Continue).
      if (status?.startsWith("1")) answer = answer.slice(answer.indexOf("\r\n\r\n") + 4);
      else if (status) finish({ status: Number(status), head: answer });
    });
    socket.on("end", () => finish({ status: 0 }));
    // A connection closed during the write is a rejection, too.
    socket.on("error", () => finish({ status: 0 }));
    socket.write(bytes);
  });
}
