import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from "node:http2";
import { connect as connectTcp, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { request } from "undici";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { stringify } from "yaml";
import { peerAuthentication } from "../../src/config/listeners.ts";
import { createExternalProcessor } from "../../src/ext-proc/processor.ts";
import { type Sidecar, serve } from "../../src/serve.ts";
import { createGrpcServer } from "../../src/server/grpc/grpc-server.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { envoyService } from "../ext-authz/envoy-service.ts";
import { grpcPeer } from "../support/grpc-peer.ts";
import { http2Frame as frame } from "../support/http2-frame.ts";
import { createTestDatabase } from "../support/postgres.ts";

/*
 * A neighboring pod reaches the sidecar's ports without knowing a secret: which resources it can hold, and whether Envoy can still
 * connect.
 */
const secret = "s".repeat(43);
const secretHeader = "x-mcp-auth-secret";
/** Far more than any timeout of the sidecar; nothing waits this long unless a defense is missing. */
const longTimeout = { timeout: 60_000, interval: 100 };
const mib = 1024 * 1024;

let folder: string;
let sidecar: Sidecar;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "neighbour-"));
  const anyPort = "127.0.0.1:0";
  const file = join(folder, "routes.yaml");
  const config = {
    issuer: "https://auth.test",
    listen: { grpc: anyPort, http: anyPort, admin: anyPort, envoy_secret: secret },
    sign_in: { providers: [{ issuer: "https://id.test", client_id: "c" }] },
    policy: { allow: { or: [{ accept: true }] } },
    routes: [{ id: "a", from: "https://a.test", to: "http://127.0.0.1:1", mcp: {} }],
    log: { level: "error" },
  };
  await writeFile(file, stringify(config), { mode: 0o600 });
  database = await createTestDatabase();
  const env = { DATABASE_URL: database.url, ENCRYPTION_KEY: Buffer.alloc(32, 1).toString("base64url") };
  sidecar = await serve({ file, env });
});
afterAll(async () => {
  await sidecar?.close();
  await database?.close();
  await rm(folder, { recursive: true, force: true });
});

const closers: (() => unknown)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

const watch = "/grpc.health.v1.Health/Watch";
const healthCheck = "/grpc.health.v1.Health/Check";
const check = "/envoy.service.auth.v3.Authorization/Check";
const process = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

function session(): ClientHttp2Session {
  const made = connectHttp2(`http://${sidecar.grpc}`);
  closers.push(() => made.destroy());
  return made.setMaxListeners(0).on("error", () => {});
}
/** A started call and its result. */
function call(on: ClientHttp2Session, path: string, headers: Record<string, string> = {}) {
  const stream = on.request({
    ":method": "POST",
    ":path": path,
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
  const seen = { stream, answered: false, closed: false, status: "" };
  const status = (got: Record<string, unknown>) => {
    if (got["grpc-status"] !== undefined) seen.status = String(got["grpc-status"]);
  };
  stream.on("response", status).on("trailers", status);
  stream.on("data", () => {
    seen.answered = true;
  });
  stream
    .on("error", () => {})
    .on("close", () => {
      seen.closed = true;
    });
  return seen;
}
/** A gRPC message, or its start. */
function message(bytes: Buffer, { announced = bytes.length, compressed = false } = {}): Buffer {
  const head = Buffer.alloc(5);
  head[0] = compressed ? 1 : 0;
  head.writeUInt32BE(announced, 1);
  return Buffer.concat([head, bytes]);
}
const written = (stream: ClientHttp2Stream, bytes: Buffer) => {
  if (!stream.destroyed) stream.write(bytes);
};
/** Envoy's check is answered. */
async function envoyIsServed(): Promise<void> {
  const envoy = grpcPeer(sidecar.grpc);
  try {
    const answer = await envoy.check("a.test", {}, { metadata: { [secretHeader]: secret } });
    expect(answer).toMatchObject({ code: 0, denied: 401 });
  } finally {
    envoy.close();
  }
}

test("a neighbor watches the sidecar's health on thousands of streams: few stay open", async () => {
  const sessions = Array.from({ length: 4 }, session);
  const calls = sessions.flatMap((one) => Array.from({ length: 900 }, () => call(one, watch)));
  for (const { stream } of calls) stream.end(message(Buffer.alloc(0)));
  await vi.waitFor(
    () => expect(calls.every(({ answered, closed }) => answered || closed)).toBe(true),
    longTimeout,
  );
  await vi.waitFor(
    () => expect(calls.filter(({ closed }) => !closed).length).toBeLessThanOrEqual(1000),
    longTimeout,
  );
  await envoyIsServed();
});

test.each([healthCheck, watch, check, process])(
  "a neighbor sends a compression bomb to %s: it is not inflated",
  async (path) => {
    const bomb = gzipSync(Buffer.alloc(15 * mib));
    const one = call(session(), path, { "grpc-encoding": "gzip" });
    one.stream.end(message(bomb, { compressed: true }));
    await vi.waitFor(() => expect(one.closed).toBe(true), longTimeout);
    expect(one.status).toBe("16");
  },
);

test.each([healthCheck, watch, check, process])(
  "a neighbor leaves long messages unfinished at %s: at most 64 of 160 MiB are buffered",
  async (path) => {
    const sessions = Array.from({ length: 16 }, session);
    const calls = sessions.flatMap((one) => Array.from({ length: 10 }, () => call(one, path)));
    const start = message(Buffer.alloc(mib), { announced: 15 * mib });
    for (const { stream } of calls) written(stream, start);
    await vi.waitFor(() => expect(calls.some(({ status }) => status === "8")).toBe(true), longTimeout);
    await envoyIsServed();
  },
);

test("a neighbor starts calls without finishing them: they are ended", async () => {
  const on = session();
  const calls = Object.fromEntries([healthCheck, check, process].map((path) => [path, call(on, path)]));
  for (const { stream } of Object.values(calls)) written(stream, Buffer.from([0]));
  // ProcessingRequest { request_headers: {} }, repeatedly: never an upstream's response.
  const waved = call(on, process);
  const requestHeaders = message(Buffer.from([0x12, 0]));
  const again = setInterval(() => written(waved.stream, requestHeaders), 50);
  closers.push(() => clearInterval(again));
  await vi.waitFor(() => expect(waved.answered).toBe(true), longTimeout);
  // ProcessingRequest { response_headers: {} }, which is answered completely.
  const answered = call(on, process);
  written(answered.stream, message(Buffer.from([0x1a, 0])));
  await vi.waitFor(() => expect(answered.status).toBe("0"), longTimeout);
  await vi.waitFor(() => {
    const all = { ...calls, waved, answered };
    expect(Object.entries(all).flatMap(([name, { closed }]) => (closed ? [] : [name]))).toEqual([]);
  }, longTimeout);
});

/** A connection on which `bytes` were sent and answered. */
async function answeredOnce(address: string, bytes: Buffer): Promise<Socket> {
  const [host, port] = address.split(":");
  const socket = connectTcp(Number(port), host).on("error", () => {});
  closers.push(() => socket.destroy());
  await once(socket, "connect").catch(() => {});
  socket.write(bytes);
  await Promise.race([once(socket, "data"), once(socket, "close")]).catch(() => {});
  return socket.resume();
}
/** The start of an HTTP/2 connection with a health check. */
function healthBytes(): Buffer {
  const literal = (name: string, value: string) =>
    Buffer.concat([
      Buffer.from([0, name.length]),
      Buffer.from(name),
      Buffer.from([value.length]),
      Buffer.from(value),
    ]);
  // :method POST and :scheme http are in the static table.
  const block = Buffer.concat([
    Buffer.from([0x83, 0x86]),
    literal(":path", healthCheck),
    literal(":authority", "a"),
    literal("content-type", "application/grpc"),
    literal("te", "trailers"),
  ]);
  return Buffer.concat([
    Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    frame(4, 0, 0, Buffer.alloc(0)),
    frame(1, 4, 1, block),
    frame(0, 1, 1, message(Buffer.alloc(0))),
  ]);
}

test.each<[string, number, () => string, Buffer, () => Promise<void>]>([
  ["gRPC", 4_096, () => sidecar.grpc, healthBytes(), envoyIsServed],
  [
    "HTTP",
    8_192,
    () => sidecar.http,
    Buffer.from("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"),
    async () => {
      const url = `http://${sidecar.http}/.well-known/oauth-authorization-server`;
      const answer = await request(url, { headers: { host: "auth.test", [secretHeader]: secret } });
      await answer.body.dump();
      expect(answer.statusCode).toBe(200);
    },
  ],
])(
  "a neighbor uses all connections of the %s port for health checks: Envoy can still connect",
  async (_port, most, address, bytes, served) => {
    const before = call(session(), healthCheck, { [secretHeader]: secret });
    before.stream.end(message(Buffer.alloc(0)));
    for (let left = most + 200; left > 0; left -= 200)
      await Promise.all(Array.from({ length: Math.min(200, left) }, () => answeredOnce(address(), bytes)));
    await vi.waitFor(served, longTimeout);
  },
);

/** The connection is in use and authenticated only by `bytes`; then a neighbor opens one more than half of all connections. */
async function staysOpen(address: string, path: string, bytes: Buffer): Promise<ClientHttp2Session> {
  const envoy = connectHttp2(`http://${address}`).on("error", () => {});
  closers.push(() => envoy.destroy());
  const proving = call(envoy, path);
  proving.stream.end(message(bytes));
  await vi.waitFor(() => expect(proving.status).toBe("0"), longTimeout);
  const [host, port] = address.split(":");
  const sockets: Socket[] = [];
  for (let left = 2_100; left > 0; left -= 100)
    await Promise.all(
      Array.from({ length: 100 }, async () => {
        const socket = connectTcp(Number(port), host).on("error", () => {});
        closers.push(() => socket.destroy());
        sockets.push(socket.resume());
        await once(socket, "connect").catch(() => {});
      }),
    );
  // Their oldest connection was closed, so an older unauthenticated one would have been, too.
  await vi.waitFor(
    () => expect(sockets.some(({ closed, readableEnded }) => closed || readableEnded)).toBe(true),
    longTimeout,
  );
  await new Promise((resolve) => envoy.ping(resolve));
  expect([envoy.closed, envoy.destroyed]).toEqual([false, false]);
  return envoy;
}
const serialized = (file: string, service: string, method: string, value: object) =>
  envoyService(file, service)[method]?.requestSerialize(value) ?? Buffer.alloc(0);

test("a gateway that authenticates only by the context extension: a neighbor's connections and bytes do not lock it out", async () => {
  const request = {
    attributes: {
      request: {
        http: { method: "GET", host: "a.test", path: "/", headers: { ":path": "/", ":method": "GET" } },
      },
      context_extensions: { envoy_secret: secret },
    },
  };
  const bytes = serialized(
    "envoy/service/auth/v3/external_auth.proto",
    "envoy.service.auth.v3.Authorization",
    "Check",
    request,
  );
  const envoy = await staysOpen(sidecar.grpc, check, bytes);
  const sessions = Array.from({ length: 8 }, session);
  const calls = sessions.flatMap((one) => Array.from({ length: 10 }, () => call(one, process)));
  for (const { stream } of calls) written(stream, message(Buffer.alloc(mib), { announced: 15 * mib }));
  await vi.waitFor(() => expect(calls.some(({ status }) => status === "8")).toBe(true), longTimeout);
  const next = call(envoy, check);
  next.stream.end(message(bytes));
  await vi.waitFor(() => expect(next.status).toBe("0"), longTimeout);
});

test("a gateway whose ext_proc streams authenticate by a check's proof keeps its connection", async () => {
  const server = await createGrpcServer({
    listen: "127.0.0.1:0",
    peers: peerAuthentication("127.0.0.1:0", { envoySecrets: [secret] }),
    services: [
      createExternalProcessor({
        maxWatchedStreams: 4_096,
        ...Object(undefined),
        routes: () => Object({ byId: () => undefined }),
        peers: peerAuthentication("127.0.0.1:0", { envoySecrets: [secret] }),
        metadataProofs: { verify: () => true, spend: () => true },
        logger: createLogger({ level: "silent" }),
        metrics: createMetrics(),
      }),
    ],
  });
  closers.push(() => server.drain(0));
  const fields = { route: { stringValue: "a" }, proof: { stringValue: "p" } };
  const value = {
    response_headers: { headers: { headers: [] } },
    metadata_context: { filter_metadata: { "envoy.filters.http.ext_authz": { fields } } },
  };
  const bytes = serialized(
    "envoy/service/ext_proc/v3/external_processor.proto",
    "envoy.service.ext_proc.v3.ExternalProcessor",
    "Process",
    value,
  );
  await staysOpen(server.address, process, bytes);
});
