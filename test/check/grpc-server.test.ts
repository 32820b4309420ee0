import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, type ClientReadableStream, credentials } from "@grpc/grpc-js";
import { afterEach, describe, expect, test } from "vitest";
import { createGrpcServer } from "../../src/check/create-grpc-server.ts";
import type { GrpcService } from "../../src/check/grpc-service.ts";
import { loadGrpcService } from "../../src/check/load-grpc-service.ts";

const definition = loadGrpcService("grpc/health/v1/health.proto", "grpc.health.v1.Health");
const authorization = "envoy.service.auth.v3.Authorization";
const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

async function start(listen: string, services: GrpcService[] = []) {
  const server = await createGrpcServer({ listen, services });
  cleanUp.push(() => server.drain(100));
  const client = new Client(server.address, credentials.createInsecure());
  cleanUp.push(() => client.close());
  return { server, client };
}
function call(
  client: Client,
  { path, requestSerialize, responseDeserialize } = definition.Check!,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, requestSerialize, responseDeserialize, {}, (error, answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
}
const next = (stream: ClientReadableStream<unknown>) =>
  new Promise((resolve) => stream.once("data", resolve));

describe("the gRPC door", () => {
  test("serves on a port, and says so over grpc.health.v1", async () => {
    const { server, client } = await start("127.0.0.1:0");
    expect(server.address).toMatch(/^127\.0\.0\.1:[1-9]/);
    expect(await call(client)).toEqual({ status: "SERVING" });
    server.setServing(false);
    expect(await call(client)).toEqual({ status: "NOT_SERVING" });
  });

  test("serves on a Unix socket, over a file that an earlier process left", async () => {
    const folder = await mkdtemp(join(tmpdir(), "grpc-"));
    cleanUp.push(() => rm(folder, { recursive: true }));
    const address = `unix:${join(folder, "s")}`;
    await (await createGrpcServer({ listen: address, services: [] })).drain(0);
    const { client } = await start(address);
    expect(await call(client)).toEqual({ status: "SERVING" });
  });

  test("an address in use is an error", async () => {
    const { server } = await start("127.0.0.1:0");
    await expect(createGrpcServer({ listen: server.address, services: [] })).rejects.toThrow();
  });

  test("gives Envoy windows for thousands of checks in flight", async () => {
    const { server } = await start("127.0.0.1:0");
    const session = connect(`http://${server.address}`);
    cleanUp.push(() => session.close());
    const settings = await new Promise<{ initialWindowSize?: number }>((resolve) =>
      session.once("remoteSettings", resolve),
    );
    expect(settings.initialWindowSize).toBe(4 * 1024 * 1024);
    await new Promise((resolve) => session.ping(resolve));
    expect(session.state.remoteWindowSize).toBe(4 * 1024 * 1024);
  });

  test("F7.2 draining tells watchers, lets calls under way end, and takes no new ones", async () => {
    let answer = () => {};
    const arrived = Promise.withResolvers<void>();
    const slow: GrpcService = {
      definition: loadGrpcService("envoy/service/auth/v3/external_auth.proto", authorization),
      implementation: {
        Check: (_call: unknown, callback: (error: null, value: object) => void) => {
          answer = () => callback(null, { status: { code: 0 } });
          arrived.resolve();
        },
      },
    };
    const { server, client } = await start("127.0.0.1:0", [slow]);
    const watch = definition.Watch!;
    const stream = client.makeServerStreamRequest(
      watch.path,
      watch.requestSerialize,
      watch.responseDeserialize,
      {},
    );
    expect(await next(stream)).toEqual({ status: "SERVING" });
    const running = call(client, slow.definition.Check);
    await arrived.promise;
    const told = next(stream);
    const drained = server.drain(10_000);
    expect(await told).toEqual({ status: "NOT_SERVING" });
    answer();
    await expect(running).resolves.toEqual({ status: { code: 0 } });
    await drained;
    const late = new Client(server.address, credentials.createInsecure());
    cleanUp.push(() => late.close());
    await expect(call(late)).rejects.toThrow();
  });

  test("a call that never ends is cut off when the grace is over", async () => {
    const arrived = Promise.withResolvers<void>();
    const hanging: GrpcService = {
      definition: loadGrpcService("envoy/service/auth/v3/external_auth.proto", authorization),
      implementation: { Check: () => arrived.resolve() },
    };
    const { server, client } = await start("127.0.0.1:0", [hanging]);
    const running = call(client, hanging.definition.Check);
    const cutOff = expect(running).rejects.toThrow();
    await arrived.promise;
    await server.drain(50);
    await cutOff;
  });
});
