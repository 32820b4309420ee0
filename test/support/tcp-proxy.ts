import { connect, createServer, type Server, type Socket } from "node:net";
import { freePort } from "../../dev/demo/free-port.ts";

export interface TcpProxy {
  readonly port: number;
  /** Breaks open connections and rejects new ones until `restore`. */
  cut(): Promise<void>;
  /** Keeps connections open and accepts new ones, but passes no bytes in either direction until `restore`. */
  blackHole(): void;
  restore(): Promise<void>;
  close(): Promise<void>;
}

/**
 * A TCP proxy that can be interrupted, on a free loopback port. @param options.fromTarget creates a filter for the bytes that a
 * connection gets from the target
 */
export async function startTcpProxy(
  target: { host: string; port: number },
  options: { fromTarget?: () => (chunk: Buffer) => Buffer } = {},
): Promise<TcpProxy> {
  const pairs = new Set<[Socket, Socket]>();
  let swallowing = false;
  const server: Server = createServer((near) => {
    const far = connect(target);
    const rewrite = options.fromTarget?.() ?? ((chunk: Buffer) => chunk);
    const pair: [Socket, Socket] = [near, far];
    pairs.add(pair);
    near.on("data", (chunk) => swallowing || far.write(chunk));
    far.on("data", (chunk) => swallowing || near.write(rewrite(chunk)));
    for (const socket of pair) {
      socket.on("error", () => {});
      socket.on("close", () => {
        pairs.delete(pair);
        // A black hole does not notify one end that the other is gone.
        if (swallowing) return;
        near.destroy();
        far.destroy();
      });
    }
  });
  const listen = (port: number) =>
    new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, "127.0.0.1", () => {
        server.off("error", reject);
        resolve();
      });
    });
  // Not a port chosen by the system: while the proxy is interrupted, the system might assign it again.
  const port = await freePort();
  await listen(port);
  const cut = async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const sockets of pairs) for (const socket of sockets) socket.destroy();
    await closed;
  };
  return {
    port,
    cut,
    blackHole: () => {
      swallowing = true;
    },
    async restore() {
      if (swallowing) for (const sockets of pairs) for (const socket of sockets) socket.destroy();
      swallowing = false;
      if (!server.listening) await listen(port);
    },
    async close() {
      if (server.listening) await cut();
    },
  };
}
