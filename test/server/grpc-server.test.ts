import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, type ClientReadableStream, credentials, Metadata, status } from "@grpc/grpc-js";
import { afterEach, describe, expect, test } from "vitest";
import { createGrpcServer } from "../../src/server/grpc/grpc-server.ts";
import { healthSpreadMs } from "../../src/server/grpc/health.ts";
import { type GrpcService, loadGrpcService } from "../../src/server/grpc/unary.ts";
import { anyPeer } from "../support/any-peer.ts";

const definition = loadGrpcService("grpc/health/v1/health.proto", "grpc.health.v1.Health");
const authorization = "envoy.service.auth.v3.Authorization";
const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

async function start(listen: string, services: GrpcService[] = []) {
  const server = await createGrpcServer({ listen, services, peers: anyPeer });
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

describe("the gRPC listener", () => {
  test("serves on a port, and reports it with grpc.health.v1", async () => {
    const { server, client } = await start("127.0.0.1:0");
    expect(server.address).toMatch(/^127\.0\.0\.1:[1-9]/);
    expect(await call(client)).toEqual({ status: "SERVING" });
    server.setServing(false);
    expect(await call(client)).toEqual({ status: "NOT_SERVING" });
  });

  test("serves on a Unix socket, replacing the file of an earlier process", async () => {
    const folder = await mkdtemp(join(tmpdir(), "grpc-"));
    cleanUp.push(() => rm(folder, { recursive: true }));
    const address = `unix:${join(folder, "s")}`;
    await (await createGrpcServer({ listen: address, services: [], peers: anyPeer })).drain(0);
    const { client } = await start(address);
    expect(await call(client)).toEqual({ status: "SERVING" });
  });

  test("an address in use is an error", async () => {
    const { server } = await start("127.0.0.1:0");
    await expect(
      createGrpcServer({ listen: server.address, services: [], peers: anyPeer }),
    ).rejects.toThrow();
  });

  test("gives Envoy windows for thousands of concurrent checks", async () => {
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

  test("draining notifies watchers, finishes calls in progress, and accepts no new ones", async () => {
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

  test("draining keeps serving until load balancers that poll have noticed and reacted", async () => {
    const { server, client } = await start("127.0.0.1:0");
    expect(await call(client)).toEqual({ status: "SERVING" });
    const drained = server.drain(10_000);
    const told = performance.now();
    expect(await call(client)).toEqual({ status: "NOT_SERVING" });
    // A late answer of a stalled machine is ignored.
    for (let late = 0; late < 3; late++) {
      const other = new Client(server.address, credentials.createInsecure());
      const answer = await call(other).catch(String);
      if (performance.now() - told < healthSpreadMs) expect(answer).toEqual({ status: "NOT_SERVING" });
      other.close();
    }
    await drained;
    const tooLate = new Client(server.address, credentials.createInsecure());
    cleanUp.push(() => tooLate.close());
    await expect(call(tooLate)).rejects.toThrow();
  });

  test("a call that never ends is terminated after the grace period", async () => {
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

  describe("unary calls without grpc-js", () => {
    const path = `/${authorization}/Check`;
    /** Answers with the message reversed; grpc-js would send an empty answer. */
    const echo: GrpcService = {
      definition: loadGrpcService("envoy/service/auth/v3/external_auth.proto", authorization),
      implementation: {
        Check: (_call: unknown, callback: (error: null, value: object) => void) =>
          callback(null, { status: { code: 7 } }),
      },
      unary: {
        [path]: (message, _deadline, answer) => {
          if (message.includes("unreadable")) throw new RangeError("no");
          answer(Buffer.from(message).reverse());
        },
      },
    };
    const bytes = { requestSerialize: (b: Buffer) => b, responseDeserialize: (b: Buffer) => b };
    const ask = (client: Client, message: Buffer, metadata = new Metadata()) =>
      new Promise<Buffer>((resolve, reject) => {
        client.makeUnaryRequest(
          path,
          bytes.requestSerialize,
          bytes.responseDeserialize,
          message,
          metadata,
          (error, answer) => (error ? reject(error) : resolve(answer ?? Buffer.alloc(0))),
        );
      });

    test("small and large messages, concurrently on one connection", async () => {
      const { client } = await start("127.0.0.1:0", [echo]);
      const messages = [0, 1, 2000, 70_000, 3_000_000].map((size) => randomBytes(size));
      const answers = await Promise.all([...messages, ...messages].map((message) => ask(client, message)));
      expect(answers).toEqual([...messages, ...messages].map((message) => Buffer.from(message).reverse()));
    });

    test("an invalid or too long message is an error and does not affect other calls", async () => {
      const { client } = await start("127.0.0.1:0", [echo]);
      await expect(ask(client, Buffer.from("unreadable"))).rejects.toMatchObject({ code: status.INTERNAL });
      await expect(ask(client, Buffer.alloc(17 * 1024 * 1024))).rejects.toMatchObject({
        code: status.RESOURCE_EXHAUSTED,
      });
      expect(await ask(client, Buffer.from("ab"))).toEqual(Buffer.from("ba"));
    });

    test("a compressed message is handled by grpc-js", async () => {
      const { server } = await start("127.0.0.1:0", [echo]);
      const client = new Client(server.address, credentials.createInsecure(), {
        "grpc.default_compression_algorithm": 2,
      });
      cleanUp.push(() => client.close());
      const refused = echo.definition.Check?.responseSerialize({ status: { code: 7 } });
      expect(await ask(client, Buffer.alloc(0))).toEqual(refused);
    });

    test("an incomplete message is an error; a caller that disconnects has no effect on others", async () => {
      const { server, client } = await start("127.0.0.1:0", [echo]);
      const session = connect(`http://${server.address}`);
      cleanUp.push(() => session.close());
      const headers = {
        ":method": "POST",
        ":path": path,
        "content-type": "application/grpc",
        te: "trailers",
      };
      const half = session.request(headers);
      half.end(Buffer.from([0, 0, 0, 0, 9, 1]));
      const [answer] = await once(half, "response");
      expect(answer["grpc-status"]).toBe(String(status.INTERNAL));
      const gone = session.request(headers);
      gone.on("error", () => {});
      gone.write(Buffer.from([0, 0, 0]));
      await new Promise((resolve) => session.ping(resolve));
      gone.close(8);
      expect(await ask(client, Buffer.from("ab"))).toEqual(Buffer.from("ba"));
    });
  });
});
