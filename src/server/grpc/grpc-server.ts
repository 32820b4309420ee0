import { X509Certificate } from "node:crypto";
import { constants, type Http2Session, type ServerHttp2Session } from "node:http2";
import { setTimeout as delay } from "node:timers/promises";
import { TLSSocket } from "node:tls";
import { logVerbosity, Server, ServerCredentials, setLogVerbosity } from "@grpc/grpc-js";
import type { Config } from "../../config/config.ts";
import type { PeerAuthentication } from "../../config/listeners.ts";
import { bindAddress } from "../bind-address.ts";
import { readTlsFiles } from "../tls-files.ts";
import { unauthenticatedConnections } from "../unauthenticated-connections.ts";
import { createHealthService, healthNoticeMs, healthSpreadMs } from "./health.ts";
import { type GrpcService, type ServedMethod, serveUnary } from "./unary.ts";

/** In bytes: enough for thousands of concurrent checks, because waiting for a window update costs an event loop turn. */
const windowBytes = 4 * 1024 * 1024;
/** A connection without a call is closed after this time, ms; Envoy sends health checks immediately. */
const firstCallMs = 10_000;
/** Of all Envoys: each opens one or two per worker. */
const maxConnections = 4_096;
/** Per connection; Envoy opens another one when it needs more. */
const maxStreams = 1_000;
/** How long a connection that is closed for a newer one may finish its calls, ms. */
const evictionGraceMs = 10_000;
/** In bytes: a check with the largest body that policy may inspect. */
const maxMessageBytes = 16 * 1024 * 1024;

export interface GrpcServer {
  /** `host:port` with the bound port, or `unix:/path`. */
  readonly address: string;
  /** The status of grpc.health.v1.Health; false from the start of draining. */
  setServing(serving: boolean): void;
  /**
   * Reports NOT_SERVING and keeps serving until load balancers have noticed. Then closes the listener, drains calls in progress, and
   * terminates the remaining ones after `graceMs`.
   */
  drain(graceMs: number): Promise<void>;
}

/**
 * Serves the services and grpc.health.v1.Health to Envoy.
 *
 * @param options.listen `host:port` (port 0: any) or `unix:/path`; an existing socket file is replaced.
 * @throws UnusableSetting if the address cannot be bound or a file of `tls` cannot be used.
 */
export async function createGrpcServer(options: {
  readonly listen: string;
  readonly services: readonly GrpcService[];
  /** Decides whether a caller is Envoy. */
  readonly peers: PeerAuthentication;
  /** Requires a client certificate of this CA, with one of these names if there are any; PEM files, read at startup. */
  readonly tls?: Config["listen"]["grpcTls"];
  /** Permissions of a Unix socket. */
  readonly socketMode?: number;
  /** Another process serves the same Unix socket. */
  readonly shared?: boolean;
}): Promise<GrpcServer> {
  const server = new Server({
    "grpc.max_receive_message_length": maxMessageBytes,
    "grpc.max_send_message_length": maxMessageBytes,
    "grpc.enable_channelz": 0,
    "grpc.max_concurrent_streams": maxStreams,
  });
  enlargeWindows(server);
  const health = createHealthService();
  for (const { definition, implementation } of [...options.services, health]) {
    server.addService(definition, implementation);
  }
  const socket = /^unix:(.+)$/.exec(options.listen)?.[1];
  const { tls } = options;
  const credentials = tls ? tlsCredentials(tls) : ServerCredentials.createInsecure();
  const port = await bindAddress(
    "listen.grpc",
    options.listen,
    options.socketMode ?? 0o660,
    () =>
      new Promise<number>((resolve, reject) => {
        // It would print a failure to standard error as well.
        const quiet = process.env.GRPC_VERBOSITY === undefined;
        if (quiet) setLogVerbosity(logVerbosity.NONE);
        server.bindAsync(options.listen, credentials, (error, bound) => {
          if (quiet) setLogVerbosity(logVerbosity.ERROR);
          if (error) reject(error);
          else resolve(bound);
        });
      }),
    options.shared,
  );
  const methods = new Map<string, ServedMethod>();
  for (const { definition, admits = "proven", unary } of [...options.services, health])
    for (const { path, requestStream, responseStream } of Object.values(definition))
      methods.set(path, { admits, streaming: requestStream || responseStream, unary: unary?.[path] });
  const sessions = new Set<ServerHttp2Session>();
  const unproven = unauthenticatedConnections<Http2Session>(maxConnections / 2, (session) => {
    session.close();
    const cutOff = setTimeout(() => session.destroy(), evictionGraceMs).unref();
    session.once("close", () => clearTimeout(cutOff));
  });
  // biome-ignore lint/complexity/useLiteralKeys: private in its types
  for (const [http2Server] of server["http2Servers"]) {
    http2Server.maxConnections = maxConnections;
    serveUnary(http2Server, methods, options.peers, maxMessageBytes, unproven.remove);
    http2Server.on("session", (session: ServerHttp2Session) => {
      if (tls && !hasName(session, tls.clientNames)) {
        session.destroy(undefined, constants.NGHTTP2_INADEQUATE_SECURITY);
        return;
      }
      const silent = setTimeout(() => session.destroy(), firstCallMs).unref();
      session.once("stream", () => clearTimeout(silent));
      session.once("close", () => clearTimeout(silent));
      session.setLocalWindowSize(windowBytes);
      sessions.add(session);
      unproven.add(session);
      session.once("close", () => {
        sessions.delete(session);
        unproven.remove(session);
      });
    });
  }
  health.setServing(true);

  return {
    address: socket ? options.listen : options.listen.replace(/:\d+$/, `:${port}`),
    setServing: health.setServing,
    async drain(graceMs) {
      health.setServing(false);
      if (await health.notified(healthNoticeMs)) await delay(healthSpreadMs);
      // Health watches never end by themselves.
      health.close();
      await new Promise<void>((resolve) => {
        const cutOff = setTimeout(() => {
          // Without channelz, forceShutdown of grpc-js 1.14 misses open sessions.
          for (const session of sessions) session.destroy();
          server.forceShutdown();
          // tryShutdown can hang on a session that has just been rejected.
          resolve();
        }, graceMs);
        server.tryShutdown(() => {
          clearTimeout(cutOff);
          resolve();
        });
      });
    },
  };
}

/** Reads the files of `listen.grpc_tls`. @throws UnusableSetting */
function tlsCredentials(tls: NonNullable<Config["listen"]["grpcTls"]>): ServerCredentials {
  const { ca, cert, key } = readTlsFiles("listen.grpc_tls", tls);
  return ServerCredentials.createSsl(ca ?? null, [{ cert_chain: cert, private_key: key }], true);
}

/** Whether the caller's certificate has one of `names` (`DNS:envoy.internal`, `URI:spiffe://...`); true without names. */
function hasName(session: ServerHttp2Session, names: readonly string[]): boolean {
  if (names.length === 0) return true;
  const { socket } = session;
  const raw = socket instanceof TLSSocket ? socket.getPeerCertificate().raw : undefined;
  const presented = raw ? (new X509Certificate(raw).subjectAltName ?? "").split(", ") : [];
  return presented.some((name) => names.includes(name));
}

/** grpc-js has no option for the window of a server and keeps its HTTP/2 options private; a test checks that this still works. */
function enlargeWindows(server: Server): void {
  // biome-ignore lint/complexity/useLiteralKeys: private in its types
  const http2Options = server["commonServerOptions"];
  http2Options.settings = { ...http2Options.settings, initialWindowSize: windowBytes };
}
