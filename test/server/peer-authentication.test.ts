import { spawn } from "node:child_process";
import { chmodSync, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ChannelCredentials, Client, credentials, status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createGrpcServer, type GrpcServer } from "../../src/server/grpc/grpc-server.ts";
import { loadGrpcService } from "../../src/server/grpc/unary.ts";
import { anyPeer } from "../support/any-peer.ts";
import { certificates, pair } from "../support/certificates.ts";
import { startE2e } from "../support/e2e.ts";
import { throughEnvoy } from "../support/through-envoy.ts";

const health = loadGrpcService("grpc/health/v1/health.proto", "grpc.health.v1.Health").Check!;
let made: Awaited<ReturnType<typeof certificates>>;
/** Each takes seconds to drain, so all stop concurrently. */
const draining: Promise<void>[] = [];
beforeAll(async () => {
  made = await certificates();
});
afterAll(async () => {
  await Promise.all(draining);
  await made.close();
});

function ask(address: string, how: ChannelCredentials): Promise<unknown> {
  const client = new Client(address, how, { "grpc.ssl_target_name_override": "sidecar.internal" });
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      health.path,
      health.requestSerialize,
      health.responseDeserialize,
      {},
      { deadline: Date.now() + 5000 },
      (error, answer) => {
        client.close();
        if (error) reject(error);
        else resolve(answer);
      },
    );
  });
}
const tls = (clientNames: string[] = []) => ({
  certificate: made.ours.files.certificate,
  key: made.ours.files.key,
  clientCa: made.ours.files.ca,
  clientNames,
});
const trusting = (client?: { cert: Buffer; key: Buffer }) =>
  credentials.createSsl(Buffer.from(made.ours.ca), client?.key ?? null, client?.cert ?? null);

describe("only Envoy may call: mTLS on the gRPC listener", () => {
  let server: GrpcServer;
  beforeAll(async () => {
    server = await createGrpcServer({
      listen: "127.0.0.1:0",
      services: [],
      peers: anyPeer,
      tls: tls(),
    });
  });
  afterAll(() => void draining.push(server.drain(100)));

  test("a certificate of our CA is accepted", async () => {
    expect(await ask(server.address, trusting(pair(made.ours)))).toEqual({ status: "SERVING" });
  });
  test.each<[string, () => ChannelCredentials]>([
    ["none", () => trusting()],
    ["another CA's", () => trusting(pair(made.unrelated))],
    ["plain text", () => credentials.createInsecure()],
  ])("%s: no answer", async (_name, how) => {
    await expect(ask(server.address, how())).rejects.toMatchObject({
      code: expect.toSatisfy((code) => code === status.UNAVAILABLE || code === status.DEADLINE_EXCEEDED),
    });
  });
  test("a certificate of our CA with the right name is accepted", async () => {
    const other = await createGrpcServer({
      listen: "127.0.0.1:0",
      services: [],
      peers: anyPeer,
      tls: tls(["URI:spiffe://elsewhere", "DNS:envoy.internal"]),
    });
    expect(await ask(other.address, trusting(pair(made.ours)))).toEqual({ status: "SERVING" });
    draining.push(other.drain(100));
  });
  test("a certificate of our CA with another name is rejected", async () => {
    const other = await createGrpcServer({
      listen: "127.0.0.1:0",
      services: [],
      peers: anyPeer,
      tls: tls(["DNS:somebody.else"]),
    });
    // Without grpc-js, which retries.
    const session = connect(`https://${other.address}`, {
      ca: made.ours.ca,
      ...pair(made.ours),
      servername: "sidecar.internal",
    });
    session.on("error", () => {});
    const stream = session.request({
      ":path": health.path,
      ":method": "POST",
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.end(Buffer.alloc(5));
    const outcome = await new Promise((resolve) => {
      stream.once("response", () => resolve("answered"));
      stream.on("error", () => {});
      stream.once("close", () => resolve("refused"));
    });
    expect(outcome).toBe("refused");
    session.destroy();
    draining.push(other.drain(100));
  });

  test("Envoy with the printed configuration gets through; without a certificate everything is 503", async () => {
    const { files } = made.ours;
    const side = { ca: files.ca, certificate: files.certificate, key: files.key };
    const stack = await startE2e({
      config: (config) => {
        const envoy = Object(config.envoy);
        return {
          ...config,
          listen: {
            ...Object(config.listen),
            grpc_tls: {
              certificate: files.certificate,
              key: files.key,
              client_ca: files.ca,
              client_names: ["DNS:envoy.internal"],
            },
          },
          envoy: { ...envoy, sidecar: { grpc_tls: { ...side, server_name: "sidecar.internal" } } },
        };
      },
    });
    expect((await throughEnvoy(stack, { url: "https://open.test/" })).status).toBe(401);
    await stack.close();
    const bare = await startE2e({
      config: (config) => ({
        ...config,
        listen: {
          ...Object(config.listen),
          grpc_tls: { certificate: files.certificate, key: files.key, client_ca: files.ca },
        },
      }),
    });
    expect((await throughEnvoy(bare, { url: "https://open.test/" })).status).toBe(503);
    expect(bare.open.requests).toHaveLength(0);
    await bare.close();
  });
});

describe("only Envoy may call: a Unix socket with permissions", () => {
  test("only owner and group have access to the socket; other users cannot connect", async () => {
    const folder = await mkdtemp(join(tmpdir(), "socket-"));
    chmodSync(folder, 0o755);
    const path = join(folder, "grpc.sock");
    const umask = process.umask();
    const server = await createGrpcServer({
      listen: `unix:${path}`,
      services: [],
      peers: anyPeer,
      socketMode: 0o660,
    });
    expect(statSync(path).mode & 0o777).toBe(0o660);
    expect(process.umask()).toBe(umask);
    expect(await ask(server.address, credentials.createInsecure())).toEqual({ status: "SERVING" });
    // Only root can switch users.
    if (process.getuid?.() === 0) expect(await connectAsNobody(path)).toContain("PermissionError");
    draining.push(server.drain(100).then(() => rm(folder, { recursive: true })));
  });
});

function connectAsNobody(path: string): Promise<string> {
  const script =
    "import os,socket,sys; os.setgid(65534); os.setuid(65534); socket.socket(socket.AF_UNIX).connect(sys.argv[1])";
  const child = spawn("python3", ["-c", script, path], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => {
    said += chunk;
  });
  return new Promise((resolve) => child.once("close", () => resolve(said)));
}
