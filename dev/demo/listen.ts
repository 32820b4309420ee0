import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { portError } from "./port-error.ts";

/** An HTTP server on the loopback interface. `close` closes open connections. */
export interface Listener {
  readonly server: Server;
  readonly port: number;
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  close(): Promise<void>;
}

/**
 * Listens on 127.0.0.1 at `port` (0: any free one).
 * @throws Error that names the port and `setting`, the environment variable that overrides it, if it is in use.
 */
export async function listen(handler: RequestListener, port = 0, setting?: string): Promise<Listener> {
  const server = createServer(handler);
  // Envoy keeps connections for an hour; if the server closed them first, requests would fail now and then.
  server.keepAliveTimeout = 3_660_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(portError(error, port, setting)));
    server.listen(port, "127.0.0.1", resolve);
  });
  const actual = (server.address() as AddressInfo).port;
  return {
    server,
    port: actual,
    url: `http://127.0.0.1:${actual}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
