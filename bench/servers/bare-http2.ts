import { createServer, type ServerHttp2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import { loadGrpcService } from "../../src/server/grpc/unary.ts";
import { sampleAnswer } from "../world/sample-answer.ts";

/*
 * The true limit of Node: `node:http2`, nothing decoded, one answer encoded once. `node bare-http2.ts ADDRESS`; prints its address.
 */
const service = loadGrpcService(
  "envoy/service/auth/v3/external_auth.proto",
  "envoy.service.auth.v3.Authorization",
);
const message = service.Check?.responseSerialize(sampleAnswer) ?? Buffer.alloc(0);
const answer = Buffer.concat([Buffer.alloc(5), message]);
answer.writeUInt32BE(message.length, 1);

const server = createServer({ settings: { initialWindowSize: 4 * 1024 * 1024 } });
server.on("session", (session: ServerHttp2Session) => session.setLocalWindowSize(4 * 1024 * 1024));
server.on("stream", (stream) => {
  stream.on("data", () => {});
  stream.on("end", () => {
    stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, {
      waitForTrailers: true,
      sendDate: false,
    } as object);
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(answer);
  });
});
const address = process.argv[2] ?? "127.0.0.1:0";
const ready = () => {
  const bound = server.address() as AddressInfo | string;
  console.log(`ready ${typeof bound === "string" ? `unix:${bound}` : `127.0.0.1:${bound.port}`}`);
};
if (address.startsWith("unix:")) server.listen(address.slice("unix:".length), ready);
else server.listen(Number(address.split(":")[1]), "127.0.0.1", ready);
process.on("SIGTERM", () => process.exit(0));
