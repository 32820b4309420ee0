import { rmSync } from "node:fs";
import type { ServerHttp2Session } from "node:http2";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { createHealthService } from "./create-health-service.ts";
import type { GrpcService } from "./grpc-service.ts";
import { serveUnary } from "./serve-unary.ts";

/** Requests that wait for a window update wait a whole turn: room for some thousand checks in flight. Bytes. */
const windowBytes = 4 * 1024 * 1024;
/** A check with the largest body policy may inspect (F1.2), and its headers. Bytes. */
const maxMessageBytes = 16 * 1024 * 1024;

export interface GrpcServer {
  /** `host:port` with the port really bound, or the socket's `unix:/path`. */
  readonly address: string;
  /** What grpc.health.v1.Health answers; false from the start of draining. */
  setServing(serving: boolean): void;
  /** Refuses new connections, lets calls under way end, and cuts off what is left after `graceMs`. */
  drain(graceMs: number): Promise<void>;
}

/**
 * Serves gRPC to Envoy, with grpc.health.v1.Health beside the services.
 *
 * @param options.listen `host:port` (port 0: any) or `unix:/path`; a socket file that nobody serves any more is replaced.
 * @throws Error when the address cannot be bound.
 */
export async function createGrpcServer(options: {
  readonly listen: string;
  readonly services: readonly GrpcService[];
}): Promise<GrpcServer> {
  const server = new Server({
    "grpc.max_receive_message_length": maxMessageBytes,
    "grpc.max_send_message_length": maxMessageBytes,
    "grpc.enable_channelz": 0,
  });
  enlargeWindows(server);
  const health = createHealthService();
  for (const { definition, implementation } of [...options.services, health]) {
    server.addService(definition, implementation);
  }
  const socket = /^unix:(.+)$/.exec(options.listen)?.[1];
  if (socket) rmSync(socket, { force: true });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(options.listen, ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  const unary = new Map(options.services.flatMap((service) => Object.entries(service.unary ?? {})));
  const sessions = new Set<ServerHttp2Session>();
  // biome-ignore lint/complexity/useLiteralKeys: private in its types
  for (const [http2Server] of server["http2Servers"]) {
    serveUnary(http2Server, unary, maxMessageBytes);
    http2Server.on("session", (session: ServerHttp2Session) => {
      session.setLocalWindowSize(windowBytes);
      sessions.add(session);
      session.once("close", () => sessions.delete(session));
    });
  }
  health.setServing(true);

  return {
    address: socket ? options.listen : options.listen.replace(/:\d+$/, `:${port}`),
    setServing: health.setServing,
    async drain(graceMs) {
      health.setServing(false);
      const cutOff = setTimeout(() => {
        // Without channelz, forceShutdown of grpc-js 1.14 forgets the sessions that are open.
        for (const session of sessions) session.destroy();
        server.forceShutdown();
      }, graceMs);
      // Health watches never end by themselves.
      health.close();
      await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      clearTimeout(cutOff);
    },
  };
}

/** grpc-js sets windows on clients only, and keeps what its server is made with to itself; a test watches that this still works. */
function enlargeWindows(server: Server): void {
  // biome-ignore lint/complexity/useLiteralKeys: private in its types
  const http2Options = server["commonServerOptions"];
  http2Options.settings = { ...http2Options.settings, initialWindowSize: windowBytes };
}
