import { afterAll, beforeAll, expect, it } from "vitest";
import { rawClient, withSession } from "./raw-client.ts";
import { type RawMember, rawMember } from "./raw-member.ts";
import { startReplicas, type TestReplicas } from "./replicas.ts";

const wait = { timeout: 60_000 };
let member: RawMember;
let replicas: TestReplicas;

beforeAll(async () => {
  member = await rawMember();
  replicas = await startReplicas([{ id: "raw", url: member.url }]);
});
afterAll(async () => {
  await replicas.close();
  await member.close();
});

/** Holds the reads of sessions, until the returned function is called. */
function holdReads() {
  const held = Promise.withResolvers<void>();
  let reads = 0;
  replicas.access.reading = () => {
    reads += 1;
    return held.promise;
  };
  return {
    reads: () => reads,
    release() {
      replicas.access.reading = () => {};
      held.resolve();
    },
  };
}

it("clients that disconnect while their session is read do not use up its open requests", async () => {
  const client = await withSession(replicas);
  const { reads, release } = holdReads();
  const before = replicas.closed();
  const sent = Array.from({ length: 64 }, () => client.send("POST", { method: "tools/list" }));
  await expect.poll(reads, wait).toBe(64);
  for (const request of sent) request.destroy();
  await expect.poll(() => replicas.closed() - before, wait).toBe(64);
  release();
  const response = await client.post({ method: "tools/list" });
  expect([response.status, await response.text()]).toEqual([200, expect.stringContaining("raw__wait")]);
});

it("a stream whose client disconnects while it is opened is not kept", async () => {
  const client = await withSession(replicas);
  await (await client.post({ method: "tools/list" })).text();
  const { reads, release } = holdReads();
  const before = replicas.closed();
  const sent = client.send("GET");
  await expect.poll(reads, wait).toBe(1);
  sent.destroy();
  await expect.poll(() => replicas.closed() - before, wait).toBe(1);
  release();
  await (await client.post({ method: "tools/list" })).text();
  await expect.poll(openStreams, wait).toBe(0);
  expect(member.streams.size).toBe(0);
});

const modern = "io.modelcontextprotocol";
const listen = {
  method: "subscriptions/listen",
  params: {
    notifications: { toolsListChanged: true },
    _meta: {
      [`${modern}/protocolVersion`]: "2026-07-28",
      [`${modern}/clientInfo`]: { name: "raw", version: "1" },
      [`${modern}/clientCapabilities`]: {},
    },
  },
};

it("a subscription that is rejected leaves no stream of a member open", async () => {
  const client = rawClient(replicas, { "mcp-protocol-version": "2026-07-28" });
  const before = member.opened();
  const response = await client.post(listen, { "mcp-method": "tools/list" });
  expect(response.status).toBe(400);
  await response.text();
  expect(member.opened()).toBeGreaterThan(before);
  await expect.poll(() => member.streams.size, wait).toBe(0);
  await expect.poll(openStreams, wait).toBe(0);
});

async function openStreams(): Promise<number> {
  return (await replicas.metrics.aggregationStreams.get()).values[0]?.value ?? 0;
}
