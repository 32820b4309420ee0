import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, expect, it } from "vitest";
import { keepAuditRecord } from "../../src/audit-trail/audit-record.ts";
import { checkpointVerifier } from "../../src/audit-trail/chain.ts";
import type { AuditDestination } from "../../src/audit-trail/send-events.ts";
import { verifyFiles } from "../../src/audit-trail/verify-files.ts";
import { createTrustedFetch } from "../../src/egress/safe-fetch.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { certificates, pair } from "../support/certificates.ts";
import { startTrail, type TestTrail } from "./start-trail.ts";

/*
 * Replicas that send audit events to a collector on a loopback socket.
 */

const token = "collector-token-that-nobody-may-see";

/** A collector that answers as told. */
class Collector {
  readonly accepted: string[] = [];
  readonly requests: IncomingMessage[] = [];
  answer: (request: IncomingMessage, response: ServerResponse) => Promise<void> = async (_, response) => {
    response.writeHead(204).end();
  };
  port = 0;
  server: Server | undefined;

  async start(tls?: { cert: Buffer; key: Buffer }): Promise<this> {
    const onRequest = async (request: IncomingMessage, response: ServerResponse) => {
      this.requests.push(request);
      const body = await text(request).catch(() => undefined);
      if (body === undefined) return;
      await this.answer(request, response);
      if (response.statusCode >= 200 && response.statusCode < 300) this.accepted.push(body);
    };
    this.server = tls ? createTlsServer(tls, onRequest) : createServer(onRequest);
    this.server.listen(this.port, "127.0.0.1");
    await once(this.server, "listening");
    this.port = (this.server.address() as AddressInfo).port;
    return this;
  }
  async stop(): Promise<void> {
    this.server?.closeAllConnections();
    await new Promise((resolve) => this.server?.close(resolve));
  }
  /** Ids of accepted events, in the order in which they came. */
  ids(): number[] {
    return this.lines().flatMap(({ id, action }) => (action === undefined ? [] : [Number(id)]));
  }
  lines(): { id?: number; action?: string }[] {
    return this.accepted.flatMap((body) =>
      body
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line)),
    );
  }
}

let trail: TestTrail;
let collector: Collector;
const replicas: { close(): Promise<void> }[] = [];
const log: string[] = [];
const metrics = createMetrics();

beforeEach(async () => {
  log.length = 0;
  trail = await startTrail();
  collector = await new Collector().start();
});
afterEach(async () => {
  await Promise.all(replicas.splice(0).map((replica) => replica.close()));
  await collector.stop();
  await trail.close();
});

function startReplica(options: Partial<AuditDestination> & { timeoutMs?: number } = {}) {
  const { timeoutMs = 3_000, ...destination } = options;
  const limits = { timeoutMs, maxResponseBytes: 1_000, allowedPrivateHosts: [] };
  const replica = keepAuditRecord({
    ...{ store: trail.store, keys: trail.keys, metrics, issuer: "https://auth.test", retentionDays: 30 },
    logger: createLogger({ level: "trace", destination: { write: (line) => void log.push(line) } }),
    fetch: createTrustedFetch({ limits: () => limits, body: "discard" }),
    destination: {
      url: `http://127.0.0.1:${collector.port}/audit?key=${token}`,
      headers: { authorization: `Bearer ${token}` },
      format: "json",
      ...destination,
    },
  });
  replicas.push(replica);
  return replica;
}
const stopReplicas = () => Promise.all(replicas.splice(0).map((replica) => replica.close()));
const position = async () => (await trail.query("select destination, batch from audit_export"))[0];
const failures = async () => {
  const { values } = await metrics.auditExports.get();
  return values.find(({ labels }) => labels.outcome === "failed")?.value ?? 0;
};
const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

it("what a collector has accepted verifies; it goes on where it stopped, and sends nothing twice", async () => {
  startReplica();
  await trail.write(3);
  await expect.poll(() => collector.ids()).toEqual([1, 2, 3]);
  await expect.poll(position).toMatchObject({ destination: `http://127.0.0.1:${collector.port}/audit` });
  await stopReplicas();
  await trail.write(3);
  await trail.chain.round();
  startReplica();
  startReplica();
  await trail.write(2);
  await expect.poll(() => collector.ids()).toEqual(numbers(1, 8));
  const lines = (async function* () {
    for (const value of collector.lines()) yield { place: "", value };
  })();
  const verified = await verifyFiles(lines, checkpointVerifier(trail.keys.jwks("audit")));
  expect(verified).toMatchObject({ findings: [], verified: 8, pending: 0 });
  expect(collector.requests[0]?.headers).toMatchObject({
    authorization: `Bearer ${token}`,
    "content-type": "application/x-ndjson",
  });
});

it("a batch that was not accepted is sent again: after a 503, a redirect and a refused connection", async () => {
  await trail.write(2);
  await trail.chain.round();
  const answers = [503, 302, 200];
  let attempts = 0;
  const positions: unknown[] = [];
  collector.answer = async (_, response) => {
    positions.push(await position());
    response.writeHead(answers[attempts++] ?? 200, { location: "http://127.0.0.1:1/" }).end();
  };
  startReplica();
  await expect.poll(() => collector.ids()).toEqual([1, 2]);
  // The position moves after a response that accepts the batch.
  expect(positions.slice(0, 3)).toEqual([undefined, undefined, undefined]);

  await collector.stop();
  const before = await failures();
  await trail.write(2);
  await expect.poll(failures).toBeGreaterThan(before);
  expect((await metrics.auditExportDelay.get()).values[0]?.value).toBeGreaterThan(0);
  await collector.start();
  await expect.poll(() => collector.ids()).toEqual([1, 2, 3, 4]);
  await expect.poll(async () => (await metrics.auditExportDelay.get()).values[0]?.value).toBe(0);
});

it("a batch whose acknowledgment was lost is sent again, with the same ids", async () => {
  let lost = false;
  collector.answer = async (_, response) => {
    if (!lost) response.destroy();
    lost = true;
    if (!response.destroyed) response.writeHead(200).end();
  };
  await trail.write(2);
  startReplica();
  await expect.poll(() => new Set(collector.ids())).toEqual(new Set([1, 2]));
});

it.each([
  ["never answers", async () => {}],
  [
    "never ends its answer",
    async (_: IncomingMessage, response: ServerResponse) => {
      response.writeHead(500);
      response.write("x".repeat(100_000));
    },
  ],
])("a collector that %s holds up neither the chain nor the end of a replica", async (_, answer) => {
  collector.answer = answer;
  // Longer than this test may take.
  startReplica({ timeoutMs: 600_000 });
  await trail.write(2);
  await expect.poll(() => collector.requests.length).toBeGreaterThan(0);
  await trail.write(2);
  await expect.poll(async () => (await trail.verify()).verified).toBe(4);
  const stopped = stopReplicas();
  // The replica ends its requests: it does not leave them open until the process exits.
  await expect.poll(() => collector.requests.filter(({ socket }) => !socket.destroyed)).toEqual([]);
  await stopped;
  expect(await position()).toBeUndefined();
});

it("a request without an answer ends with the timeout, and is repeated", async () => {
  const { answer } = collector;
  collector.answer = async () => {};
  startReplica({ timeoutMs: 200 });
  await trail.write(2);
  await expect.poll(() => collector.requests.length).toBeGreaterThan(1);
  collector.answer = answer;
  await expect.poll(() => collector.ids()).toEqual([1, 2]);
});

it("neither the token nor the query of the URL is in the log or the database, whatever fails", async () => {
  collector.answer = async (_, response) => void response.writeHead(401).end(token);
  startReplica();
  await trail.write(1);
  await expect.poll(() => log.join("")).toContain("the collector answered 401");
  await collector.stop();
  const before = await failures();
  await expect.poll(failures).toBeGreaterThan(before);
  await collector.start();
  collector.answer = async (_, response) => void response.writeHead(200).end();
  await expect.poll(position).toBeDefined();
  expect(log.join("")).not.toContain(token);
  expect(JSON.stringify(await position())).not.toContain(token);
});

it("a collector with a certificate of an unknown authority gets nothing", async () => {
  const made = await certificates();
  await collector.stop();
  await collector.start(pair(made.unrelated));
  startReplica({ url: `https://localhost:${collector.port}/audit` });
  await trail.write(1);
  const before = await failures();
  await expect.poll(failures).toBeGreaterThan(before);
  expect(collector.requests).toEqual([]);
  await made.close();
});

it("as CloudEvents, with the checkpoint", async () => {
  startReplica({ format: "cloudevents" });
  await trail.write(1);
  await expect.poll(() => collector.accepted.join("")).toContain('"id":"1"');
  const events = collector.accepted.flatMap((body) => JSON.parse(body));
  expect(events).toContainEqual({
    ...{ specversion: "1.0", id: "1", source: "https://auth.test", type: "envoy-mcp-auth.policy.denied" },
    ...{ time: expect.any(String), datacontenttype: "application/json", subject: "company/alice" },
    data: expect.objectContaining({ id: 1, action: "policy.denied" }),
  });
  expect(events.at(-1)).toMatchObject({
    type: "envoy-mcp-auth.audit.checkpoint",
    data: { checkpoint: expect.any(Number), jws: expect.any(String) },
  });
  expect(collector.requests[0]?.headers["content-type"]).toBe("application/cloudevents-batch+json");
});

it("after the chain was cut and continued, the collector gets the new batches as well, and the log has an error", async () => {
  startReplica();
  await trail.write(2);
  await expect.poll(() => collector.ids()).toEqual([1, 2]);
  const { batch } = (await position()) ?? {};
  await stopReplicas();
  await trail.query(`
    delete from audit_batch where number = ${batch};
    update audit_event set user_id = 'company/mallory' where id = 2`);
  await trail.newChain().round();
  startReplica();
  await expect.poll(() => collector.accepted.join("")).toContain("company/mallory");
  expect(log.join("")).toContain('"problem":"rewritten"');
});
