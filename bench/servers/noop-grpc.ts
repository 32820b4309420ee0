import type { ServerHttp2Session } from "node:http2";
import { Server, ServerCredentials, type sendUnaryData } from "@grpc/grpc-js";
import { loadGrpcService } from "../../src/server/grpc/unary.ts";
import { sampleAnswer } from "../world/sample-answer.ts";

/*
 * The limit of the platform: grpc-js as everybody uses it, our messages, no work. Windows as wide as our own server's, so that
 * this is not what is compared. `node noop-grpc.ts ADDRESS`; prints its address.
 */
const server = new Server();
// biome-ignore lint/complexity/useLiteralKeys: private in its types
const http2Options = server["commonServerOptions"];
http2Options.settings = { ...http2Options.settings, initialWindowSize: 4 * 1024 * 1024 };
server.addService(
  loadGrpcService("envoy/service/auth/v3/external_auth.proto", "envoy.service.auth.v3.Authorization"),
  { Check: (_call: unknown, callback: sendUnaryData<object>) => callback(null, sampleAnswer) },
);
const address = process.argv[2] ?? "127.0.0.1:0";
server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  // biome-ignore lint/complexity/useLiteralKeys: private in its types
  for (const [http2Server] of server["http2Servers"])
    http2Server.on("session", (session: ServerHttp2Session) => session.setLocalWindowSize(4 * 1024 * 1024));
  console.log(`ready ${address.startsWith("unix:") ? address : address.replace(/:\d+$/, `:${port}`)}`);
});
process.on("SIGTERM", () => process.exit(0));
