import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type Koa from "koa";
import type { Config } from "../../config/config.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { bindAddress, type ListenSetting } from "../bind-address.ts";
import type { UnauthenticatedConnections } from "../unauthenticated-connections.ts";

/** Open connections per HTTP listener: the connection pools of several Envoys (`clusters.ts`). */
export const maxConnections = 8_192;

/**
 * Serves `app` on `host:port` or `unix:/path`. `close` drains and terminates the remaining connections after `graceMs`.
 * @throws UnusableSetting if the address cannot be bound
 */
export async function listen(
  app: Koa,
  address: string,
  options: {
    readonly setting: ListenSetting;
    readonly config: Config;
    readonly metrics: Metrics;
    readonly unproven?: UnauthenticatedConnections<Socket>;
  },
): Promise<{ readonly address: string; close(graceMs: number): Promise<void> }> {
  const { setting, config, metrics, unproven } = options;
  const server = createServer(
    {
      maxHeaderSize: config.check.maxHeaderBytes,
      // From the first byte, or from connecting. Bodies are small, and Envoy sends them complete.
      headersTimeout: 10_000,
      requestTimeout: 20_000,
      connectionsCheckingInterval: 2_000,
    },
    app.callback(),
  );
  server.maxConnections = maxConnections;
  if (unproven)
    server.on("connection", (connection: Socket) => {
      unproven.add(connection);
      connection.once("close", () => unproven.remove(connection));
    });
  server.on("clientError", (error: NodeJS.ErrnoException, wire) => {
    const tooLong = error.code === "HPE_HEADER_OVERFLOW";
    if (tooLong) metrics.limitsReached.inc({ limit: "header_bytes" });
    const tooSlow = error.code === "ERR_HTTP_REQUEST_TIMEOUT";
    const status = tooLong
      ? "431 Request Header Fields Too Large"
      : tooSlow
        ? "408 Request Timeout"
        : "400 Bad Request";
    if (!wire.writable) {
      wire.destroy();
      return;
    }
    wire.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`);
    // A client that sends nothing may not read either.
    if (tooSlow) setTimeout(() => wire.destroy(), 1_000).unref();
  });
  // Envoy keeps idle connections for an hour; closing them first can fail a request.
  server.keepAliveTimeout = 75_000;
  const socket = /^unix:(.+)$/.exec(address)?.[1];
  const url = socket ? undefined : new URL(`http://${address}`);
  await bindAddress(
    setting,
    address,
    config.listen.socketMode,
    () =>
      new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        const listening = () => resolve();
        if (socket) server.listen(socket, listening);
        else server.listen(Number(url?.port || 80), url?.hostname.replace(/^\[|\]$/g, ""), listening);
      }),
  );
  return {
    address: socket ? address : `${url?.hostname}:${(server.address() as AddressInfo).port}`,
    async close(graceMs) {
      const cutOff = setTimeout(() => server.closeAllConnections(), graceMs);
      server.closeIdleConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      clearTimeout(cutOff);
    },
  };
}
