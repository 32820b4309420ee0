import { readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { createSecureContext } from "node:tls";
import type Koa from "koa";
import type { Config } from "../../config/config.ts";
import { watchFiles } from "../../config/live-config.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { type UnauthenticatedConnections, withSocketMode } from "../unauthenticated-connections.ts";

/** Open connections per HTTP listener: the connection pools of several Envoys (`clusters.ts`). */
export const maxConnections = 8_192;

/** PEM files of a TLS listener; renewed files are read without a restart. */
export interface TlsFiles {
  readonly certificate: string;
  readonly key: string;
}

/**
 * @param setting the section of the routes file with the files
 * @throws Error that names the setting if a file cannot be read, or the key does not belong to the certificate.
 */
export function checkCertificate(setting: string, { certificate, key }: TlsFiles): void {
  try {
    createSecureContext({ cert: readFileSync(certificate), key: readFileSync(key) });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(
      `the certificate of ${setting} cannot be used: ${reason}. Check ${setting}.certificate (PEM, with its chain) and ${setting}.key`,
    );
  }
}

/** Serves `app` on `host:port` or `unix:/path`. `close` drains and terminates the remaining connections after `graceMs`. */
export async function listen(
  app: Koa,
  address: string,
  options: {
    readonly config: Config;
    readonly metrics: Metrics;
    readonly unproven?: UnauthenticatedConnections<Socket>;
    readonly tls?: TlsFiles;
  },
): Promise<{ readonly address: string; close(graceMs: number): Promise<void> }> {
  const { config, metrics, unproven, tls } = options;
  const limits = {
    maxHeaderSize: config.check.maxHeaderBytes,
    // From the first byte, or from connecting. Bodies are small, and Envoy sends them complete.
    headersTimeout: 10_000,
    requestTimeout: 20_000,
    connectionsCheckingInterval: 2_000,
  };
  const server = tls ? tlsServer(tls, limits, app) : createServer(limits, app.callback());
  server.maxConnections = maxConnections;
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
  if (socket) rmSync(socket, { force: true });
  const url = socket ? undefined : new URL(`http://${address}`);
  await withSocketMode(
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

function tlsServer({ certificate, key }: TlsFiles, limits: object, app: Koa): Server {
  const files = () => ({ cert: readFileSync(certificate), key: readFileSync(key) });
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
  watch.files([certificate, key]);
  server.once("close", watch.close);
  return server;
}
