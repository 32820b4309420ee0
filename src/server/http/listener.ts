import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type Koa from "koa";
import type { Config } from "../../config/config.ts";
import { watchFiles } from "../../config/live-config.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { bindAddress, type ListenSetting } from "../bind-address.ts";
import { readTlsFiles, type TlsFiles } from "../tls-files.ts";
import type { UnauthenticatedConnections } from "../unauthenticated-connections.ts";

/** Open connections per HTTP listener: the connection pools of several Envoys (`clusters.ts`). */
export const maxConnections = 8_192;

/**
 * Serves `app` on `host:port` or `unix:/path`. `close` drains and terminates the remaining connections after `graceMs`.
 * @throws UnusableSetting if the address cannot be bound or the TLS files cannot be used
 */
export async function listen(
  app: Koa,
  address: string,
  options: {
    readonly setting: ListenSetting;
    readonly config: Config;
    readonly metrics: Metrics;
    readonly unproven?: UnauthenticatedConnections<Socket>;
    readonly tls?: TlsFiles;
    /** Another process serves the same Unix socket. */
    readonly shared?: boolean;
  },
): Promise<{ readonly address: string; close(graceMs: number): Promise<void> }> {
  const { setting, config, metrics, unproven, tls } = options;
  const limits = {
    maxHeaderSize: config.check.maxHeaderBytes,
    // From the first byte, or from connecting. Bodies are small, and Envoy sends them complete.
    headersTimeout: 10_000,
    requestTimeout: 20_000,
    connectionsCheckingInterval: 2_000,
  };
  const server = tls ? tlsServer(setting, tls, limits, app) : createServer(limits, app.callback());
  server.maxConnections = maxConnections;
  const open = new Set<Socket>();
  server.on("connection", (connection: Socket) => {
    open.add(connection);
    connection.once("close", () => open.delete(connection));
  });
  if (unproven) trackUnproven(server, unproven);
  server.on("clientError", (error: NodeJS.ErrnoException, wire) => {
    const tooLong = error.code === "HPE_HEADER_OVERFLOW";
    if (tooLong) metrics.limitsReached.inc({ limit: "header_bytes" });
    const tooSlow = error.code === "ERR_HTTP_REQUEST_TIMEOUT";
    const status = tooLong
      ? "431 Request Header Fields Too Large"
      : tooSlow
        ? "408 Request Timeout"
        : "400 Bad Request";
    // Without a handshake, a response would wait for it, and keep the connection.
    if (!wire.writable || error.code === "ERR_TLS_HANDSHAKE_TIMEOUT") {
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
    options.shared,
  );
  return {
    address: socket ? address : `${url?.hostname}:${(server.address() as AddressInfo).port}`,
    async close(graceMs) {
      const cutOff = setTimeout(() => {
        // Also those before the end of their TLS handshake, which `closeAllConnections` does not know.
        for (const connection of open) connection.destroy();
      }, graceMs);
      server.closeIdleConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      clearTimeout(cutOff);
    },
  };
}

/** Adds every connection, from its first byte; after a TLS handshake, requests come from a socket of its own. */
function trackUnproven(server: Server, unproven: UnauthenticatedConnections<Socket>): void {
  const handshaking = new Map<string, Socket>();
  const peer = ({ remoteAddress, remotePort }: Socket) => `${remoteAddress} ${remotePort}`;
  server.on("connection", (connection: Socket) => {
    const key = peer(connection);
    handshaking.set(key, connection);
    unproven.add(connection);
    connection.once("close", () => {
      if (handshaking.get(key) === connection) handshaking.delete(key);
      unproven.remove(connection);
    });
  });
  server.on("secureConnection", (secure: Socket) => {
    const connection = handshaking.get(peer(secure));
    if (connection) unproven.remove(connection);
    unproven.add(secure);
    secure.once("close", () => unproven.remove(secure));
  });
}

function tlsServer(setting: ListenSetting, tls: TlsFiles, limits: object, app: Koa): Server {
  const section = setting === "listen.xds.address" ? "listen.xds" : `${setting}_tls`;
  const files = () => readTlsFiles(section, tls);
  const server = createTlsServer(
    { ...limits, ...files(), minVersion: "TLSv1.2", handshakeTimeout: 10_000 },
    app.callback(),
  );
  const watch = watchFiles(() => {
    try {
      server.setSecureContext({ ...files(), minVersion: "TLSv1.2" });
    } catch {
      // Half replaced, or invalid: the previous certificate stays in use, and the next event tries again.
    }
  });
  watch.files([tls.certificate, tls.key]);
  server.once("close", watch.close);
  return server;
}
